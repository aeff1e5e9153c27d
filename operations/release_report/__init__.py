"""`assay release report`: what there is to know of a version, on one page that needs nothing else.

judgement, evidence, ledger ─► facts.py ─► page.py: the sections, in their order
                                              ├── verdict.py      sentence and rules
                                              └── record.py       events, origin, fingerprints
registry.report   scores, slices, regressions, methods: the page of the scorecard
publish.py        writes the page, and attaches it to the version's run
"""
