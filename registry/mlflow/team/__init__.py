"""Admission for an MLflow server that a team runs itself: what MLflow loads as a plug-in.

```
mlflow server --app-name assay …
     ├─ app.py ──────► the inner app (basic-auth), behind what announces admission
     ├─ stores.py ───► MLflow's stores, guarded by rules.py ─► ledger, by way of the desk
     └─ artifacts.py ► where files are written, checked again when an upload takes its name
settings.py: what the server's admin sets    reach.py: what is governed, and what is everybody's
entry_points.py: what MLflow loads by name
```

The rules are those of `assay up` (`registry/mlflow/guarded_stores.py`,
`registry/mlflow/admission.py`), for the listed models alone. Everything else works as in an MLflow
without Assay.
"""
