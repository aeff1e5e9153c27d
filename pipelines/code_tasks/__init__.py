"""Benchmarks of code: tasks whose answers are run against tests.

humaneval.py ─ tasks ─► score.py: asked ─► answer_code.py ─► boxes (pipelines.sandbox)
                                                               └─► pass_at_k.py
verdict.py    not worse than the base by more than a margin
controls.py   references pass and empty functions fail, before an answer is believed
"""
