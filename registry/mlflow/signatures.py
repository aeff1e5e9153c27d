"""The signature of a version's package, where MLflow keeps it: beside the files that it covers."""

import tempfile
from pathlib import Path
from typing import Any

from core.files import write_atomically
from registry.mlflow.connection import Connection
from registry.mlflow.places import check_place
from registry.mlflow.recorded import ModelVersion
from registry.release.package_signature import SIGNATURE


class Signatures:
    """Signatures of registered versions; every call may raise `RegistryError`."""

    def __init__(self, mlflow: Connection, uri: str) -> None:
        self._mlflow = mlflow
        self._uri = uri

    def read(self, version: ModelVersion) -> bytes | None:
        """The signature's bytes, which nobody has verified; None where there is none."""
        repository = self._artifacts(version)
        listed = self._mlflow.attempt(lambda: repository.list_artifacts(""))
        # Listed first: MLflow answers a missing file with an error that also means other things.
        if SIGNATURE not in {artifact.path for artifact in listed}:
            return None
        with tempfile.TemporaryDirectory() as scratch:
            self._mlflow.attempt(
                lambda: repository.download_artifacts(SIGNATURE, dst_path=scratch)
            )
            return (Path(scratch) / SIGNATURE).read_bytes()

    def attach(self, version: ModelVersion, package: Path) -> None:
        """Store the signature that lies in `package`; it takes the place of an earlier one."""
        repository = self._artifacts(version)
        path = str(package / SIGNATURE)
        self._mlflow.attempt(lambda: repository.log_artifact(path))

    def complete(self, version: ModelVersion, package: Path) -> None:
        """Put MLflow's signature into a package on this machine that has none."""
        # One that is there is verified, never replaced by what MLflow holds now.
        if (package / SIGNATURE).exists():
            return
        stored = self.read(version)
        if stored is not None:
            put_signature(package, stored)

    def _artifacts(self, version: ModelVersion) -> Any:
        # MLflow takes seconds to import.
        from mlflow.store.artifact.artifact_repository_registry import (
            get_artifact_repository,
        )

        location = self._mlflow.ask(
            lambda mlflow: mlflow.get_model_version_download_uri(
                version.name, version.version
            )
        )
        check_place(location, self._uri)
        return get_artifact_repository(location, tracking_uri=self._uri)


def put_signature(package: Path, signature: bytes) -> None:
    """Put a signature into a package on this machine, whole or not at all."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(signature)

    write_atomically(package / SIGNATURE, write)
