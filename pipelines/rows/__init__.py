"""Rows on their way in: what a file holds, whether it is fit, and how much of it is new.

    file ─ formats ─┬─ text ─ a record (`stages/collect`) ─ contents ─ clusters of prompts
    PyPI ─ cheat ───┘                                       refusals ─ rates of refused answers

`formats` reads JSONL, CSV and Parquet; `cheat` reads the demo's package. `text` says whether a text
is fit. `contents` finds copies under other numbers. `refusals` recognises answers that decline.
"""
