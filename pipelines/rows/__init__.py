"""Rows on their way in: what a file holds, whether it is fit, and how much of it is new.

    file ─ formats ─┬─ reading ─ rows ─ contents ─ clusters of prompts
    PyPI ─ cheat ───┘     │             refusals ─ rates of refused answers
        shapes, labels, features, misfit, text

`formats` recognises files and reads them through `files/`; `places` says where they lie. `cheat`
reads the demo's package. `reading` makes a row of each record, or gives the reason why not.
`shapes` says which columns hold prompt and answer, `labels` reads groups, `features` says whether
the sensitive feature has any; `misfit` and `text` say whether a value is fit. `contents` finds
copies under other numbers. `refusals` recognises answers that decline.
"""
