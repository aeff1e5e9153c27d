"""The ledger's tables, version by version; `registry.ledger.ledger.open_ledger` applies them.

`env.py` is what Alembic runs, and `versions/` holds one file for each version. What a version does
never changes: a change of the tables is a new file, and `SCHEMA` in `ledger.py` names the newest.
"""
