"""The endpoint: one process in front of engine processes, which makes what answers match the ledger.

`follow` reads and remembers the ledger, `fleet` has an engine for every release that is needed, `lanes` says who answers under which name,
`forward` carries one request, `release_engine` keeps one engine running, `verify` and `probe` say whether it may answer.
"""
