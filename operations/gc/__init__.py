"""`assay gc`: delete unreferenced items past their retention period.

1. retention.py    days for each kind, from infra/retention.yaml
2. referenced.py   what ledger and MLflow lead to: never deleted
3. removable.py    the values: Item, Grounds, Kind
4. folders.py, ended_runs.py, cache.py   each kind lists its items on these grounds
5. clear.py        deletes what no kind has a reason to keep
"""
