"""What MLflow loads by name, in every process that imports it: nothing here imports anything heavy.

The parameters' names are MLflow's.
"""

from typing import Any


def open_models(store_uri: str) -> Any:
    """The store of models at `assay+sqlite:///…` or `assay+postgresql://…`."""
    from registry.mlflow.team import stores

    return stores.open_models(store_uri)


def open_records(store_uri: str, artifact_uri: str | None = None) -> Any:
    """The store of runs at such an address."""
    from registry.mlflow.team import stores

    return stores.open_records(store_uri, artifact_uri)


def open_files(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """The artifacts at `assay+file:///…`."""
    from registry.mlflow.team import artifacts

    return artifacts.open_files(artifact_uri, tracking_uri, registry_uri)
