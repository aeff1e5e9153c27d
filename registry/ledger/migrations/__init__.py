"""The ledger's tables, version by version; `registry.ledger.ledger.open_ledger` applies them."""
