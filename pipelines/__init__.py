"""WHAT Assay computes: values, parameters, errors, metrics, gates, one file a stage.

Knows nothing of Prefect, MLflow or HTTP. Touches the network only in `collect` and `base_model`, to download the demo's packages.
"""
