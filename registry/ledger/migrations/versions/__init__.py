"""The versions of the ledger's tables, one file each, named by its number."""
