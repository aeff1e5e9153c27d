"""WHAT Assay computes, from data and a base model to a verdict: no Prefect, MLflow or HTTP.

    stages ─ scoring, gates ─ metrics, statistics, rows, models ─ values     imports run down

`stages` has a file for each DVC stage, `values` what they pass on, `layout` where files are.
Only `collect` and `base_model` touch the network, to download the demo's packages.
"""
