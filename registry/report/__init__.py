"""One page for each scorecard: what was judged, how, and what that does not cover.

folder of evidence ─► scored.py ─► scorecard.py: the sections, in their order
                         │           ├── rules.py        the sentence, and each rule
                         │           ├── scores.py       scores, differences, plots (plot.py)
                         │           ├── slices.py       parts of the prompts, each with its floor
                         │           ├── regressions.py  the worst answers side by side
                         │           ├── groups.py       groups of people
                         │           ├── errors.py       power, and the error of a year
                         │           └── methods.py      how it was counted, and what is not covered
                         └── paired.py: differences by prompt
frame.py     the page around the sections; style.css  light, dark, print
html.py      every text goes through it

`operations.release_report` writes the page of a version out of the same sections.
"""
