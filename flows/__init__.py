"""Prefect's floor: what is run, in which order, and what starts it.

    train.py      THE MAIN PATH        run/       one run: workspace, stages, record
    retrain.py    schedules, new data  schedule/  what Prefect runs by itself
    rescore.py    the champion again   start.py   a run from the command line
    promote.py    a release: judged_version.py, champions.py, package_repair.py

A flow orders and retries; pipelines/ computes, registry/ remembers.
"""
