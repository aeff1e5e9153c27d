"""The ledger's tables, version by version; `registry.ledger.open_ledger` applies them."""
