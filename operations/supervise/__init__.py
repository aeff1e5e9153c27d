"""The supervisor: it keeps services running and knows nothing of what they are for.

service.py ── Service: a command, its environment, and how it shows that it is ready
    │
watch.py ── SupervisedService: starts it, watches it, restarts it, gives it up
    ├── process_guard.py   one process per service, which ends the service's whole tree
    └── silence.py         whether a running service still answers
processes.py ── finds processes by a mark in their environment, and ends them
"""
