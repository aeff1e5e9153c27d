"""WHERE models are kept: what is registered, judged and released. The only package with mlflow.

ledger/    signed entries of everything that was decided, and the state that they amount to
release/   the gate `judge`, and a release step by step: it writes entries and asks the endpoint
mlflow/    runs, packages and version pages; the ledger and releases work without it
policies/  thresholds of the gates, reviewed on their own

A version goes from `mlflow` (registered) through `release` (judged, released) into `ledger`; the
endpoint and the controller read the ledger and follow it.
"""
