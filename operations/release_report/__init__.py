"""`assay release report`: what there is to know of a version, on one page that needs nothing else.

judgement, evidence, ledger ─► facts.py ─► page.py: the sections, in their order
                                  │            ├── verdict.py      sentence and rules
                                  │            ├── scores.py       scores, differences, plots
                                  │            ├── regressions.py  the worst answers side by side
                                  │            └── record.py       groups, events, fingerprints
                                  └── paired.py: differences by prompt ─► plot.py
html.py      every text goes through it; style.css  light, dark, print
publish.py   writes the page, and attaches it to the version's run
"""
