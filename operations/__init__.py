"""What people and the controller do with a running system; `cli` puts the results into words.

run it      up.py, down.py, services.py ──> supervise/      controller.py ──> reconcile.py
serve       serve.py, demo.py               look    status.py, doctor.py ──> checks.py, dry_run.py
order       orders.py, revoking.py, waiving.py, adopt.py    judge again   gate.py
remember    history.py, ledger_audit.py, remembered.py
keep        backup/, gc/, run_refs.py
"""
