"""`assay gc`: delete unreferenced items past their retention period.

retention.py   days per kind, from infra/retention.yaml ──┐ referenced.py  what ledger and MLflow
lead to ────────────┼──> Grounds ──> each Kind looks ──> Items folders.py, ended_runs.py,
cache.py: the kinds of items ──┘                     clear.py deletes those without removable.py
Item, Grounds, Kind                                              a reason to stay
"""
