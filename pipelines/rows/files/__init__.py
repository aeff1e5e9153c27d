"""Files of rows, recognised by what they hold and read one record at a time.

    packed ─ signatures ─┬─ encodings ─ text_kinds ─┬─ lines ─┬─ delimited
                         │                          └─ json_cutter ─ json_lists
                         ├─ workbook
                         └─ arrow

`packed` unpacks gzip and zstd, `signatures` tells binary files apart, `encodings` and `text_kinds`
judge texts. The others read one kind each, and `plans` chooses among them for `..formats`.
`records` is what they give, and `read_as` what a person may say instead of a guess.
"""
