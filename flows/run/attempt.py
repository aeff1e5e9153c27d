"""One attempt at a logical run: what recording, registration and succession work with."""

from dataclasses import dataclass
from pathlib import Path

from flows.run.workspace import Workspace
from registry.mlflow.recorded import ModelVersion, RecordedRun
from registry.mlflow.store import Store


@dataclass(frozen=True)
class Attempt:
    """A workspace, the MLflow run that records it, and the model that it is for."""

    workspace: Workspace
    store: Store
    run: RecordedRun
    logical_run: str
    """Digest of the work: two attempts with the same digest do the same."""
    model: str

    @property
    def root(self) -> Path:
        """The worktree in which the stages run."""
        return self.workspace.root

    @property
    def home(self) -> Path:
        """The project's home."""
        return self.workspace.home

    def fetch_package(self, version: ModelVersion) -> Path:
        """The package of a version, every byte checked, on this machine."""
        return fetch_package_of(self.store, version, self.home)


def fetch_package_of(store: Store, version: ModelVersion, home: Path) -> Path:
    """The package of a version in the home's `packages`; `RegistryError` where it is not whole."""
    folder = home / "packages" / version.package_sha256
    return store.fetch(version, folder)
