"""The ledger: signed entries that are only ever added, and the state that they amount to.

body (entries.py) -> hashed (canonical.py) and signed (keys.py) -> row (ledger.py, database.py)
row -> entry -> verified one by one (chain.py) -> legal? (rules.py) -> state (state.py)
state -> sealed heads outside of the ledger (heads.py, witness.py) -> compared by audit.py

`Ledger.append` writes an entry on top of a state, and `Ledger.state` verifies and reads. audit.py
also exports and restores, rotation.py replaces the key, and migrations/ creates the tables.
"""
