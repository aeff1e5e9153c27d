"""MLflow: the only package that imports mlflow.

```
client:  flows, operations ─► home_store.open_store ─► store.py (versions, aliases)
                                                        ├─► runs.py (runs, verdicts, curves)
                                                        └─► connection.py ─► calls.py (retries)
server:  assay up ─► server.py ─► guard.py ─► guarded_stores.py, guarded_artifacts.py ─► SQLite
                                                                                  or PostgreSQL
                     accounts.py: users     acting.py: whose request it is
```

- `recorded.py` has MLflow's records as values, and the names of tags and aliases; `card.py` writes
  the page and the model card of a version; `pages.py` reads what pages remember of the ledger.
- `package_folder.py` says whether a downloaded package is whole, and sets a damaged one aside.
- `retained.py` says what may be erased.
- `own_database.py` says where a home's records are; `copy_records.py` takes them to PostgreSQL.
- `moved.py` has a home that was moved lead to its own files, by `relocate.py`.
"""
