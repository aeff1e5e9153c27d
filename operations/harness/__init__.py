"""Tasks of lm-evaluation-harness for a registered version, asked in the user's own environment.

ask.py ─► the program's files, of the base and of the adapter ─ results.py ─► scores
score_version.py: the files of the version, and the report ─ report.py ─► its run in MLflow
"""
