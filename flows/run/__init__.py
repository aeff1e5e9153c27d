"""One training run, from a request to its record.

request ─ workspace (pin) ─ attempt ─ stages (stage_task ─ reproduce) ─ record ─ report

comparators   champion and anchor       previous      outcomes of the same work
artifacts     evidence and package      registration  the ledger's entry
challenger    who is under review       mlflow_run    curves, and how the run ends
work_key      the identity of the work  dead_runs     runs whose process was killed
"""
