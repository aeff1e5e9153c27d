"""`assay trend`: how a model's champion and candidates scored over time.

collect.py   MLflow's runs and the ledger's releases ─► series of points, and marks
page.py      the same as one HTML page, drawn by registry.report.timeline
"""
