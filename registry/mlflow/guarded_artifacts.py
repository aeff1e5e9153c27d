"""Where MLflow's server reads and writes files: under its own artifact root, and elsewhere for nobody.

An experiment that was made before may name any place. So the place is looked at whenever a file is read or written, and once more
when a finished upload takes its name.
"""

import os
import re
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from registry.mlflow.accounts import SERVICE
from registry.mlflow.acting import acting
from registry.mlflow.guarded_stores import is_governed

_NUMBER = re.compile(r"[0-9]{1,18}")
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
"""Where MLflow's server says that its artifacts lie."""


class GuardedArtifacts(LocalArtifactRepository):
    """Files under one artifact location, if that is one of this server's own."""

    def __init__(
        self,
        artifact_uri: str,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._check_inside(Path(self.artifact_dir))

    def _get_or_create_artifact_dir(self, artifact_path: str | None = None) -> str:
        self._check_writable(artifact_path)
        return str(super()._get_or_create_artifact_dir(artifact_path))

    def _publish_staged_artifact(
        self,
        temp_file_path: str,
        destination_file_path: str,
        finalize_temp_path: Any = None,
    ) -> None:
        self._check_writable(destination_file_path)
        super()._publish_staged_artifact(
            temp_file_path, destination_file_path, finalize_temp_path
        )

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Copy a folder, where one may write."""
        self._check_writable(artifact_path)
        super().log_artifacts(local_dir, artifact_path)  # type: ignore[no-untyped-call]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete, where one may write."""
        self._check_writable(artifact_path)
        super().delete_artifacts(artifact_path)  # type: ignore[no-untyped-call]

    def get_local_path(self, artifact_path: str) -> str:
        """The file itself, if it lies below the root whatever links lead to it."""
        found = str(super().get_local_path(artifact_path))
        self._check_inside(Path(found))
        return found

    def _check_inside(self, path: Path) -> tuple[str, ...]:
        """The parts of the real path below the root."""
        root = _artifact_root()
        whole = Path(os.path.realpath(path))
        if whole != root and root not in whole.parents:
            raise _denied(
                f"The artifact location {self.artifact_uri[:200]} is not under this server's artifact root"
            )
        return whole.relative_to(root).parts

    def _check_writable(self, artifact_path: str | None) -> None:
        parts = self._check_inside(Path(self.artifact_dir, artifact_path or ""))
        by = acting()
        if by is None or by == SERVICE:
            return
        if not by or not parts or not _is_ones_own(parts[0]):
            raise _denied(
                f"Files of Assay's experiment are written by the account {SERVICE!r} alone. Use an experiment of your own"
            )


def other_places(artifact_uri: str, **_: Any) -> Any:
    """Addresses of other machines: this server keeps files on its own disk and asks nobody for any."""
    raise _denied(
        f"This server keeps no artifacts at {artifact_uri.split(':', 1)[0][:20]}://"
    )


def _is_ones_own(folder: str) -> bool:
    """Below the root an experiment's folder has its number. Assay's own runs lie beside them, under their ids."""
    from mlflow.server.handlers import _get_tracking_store

    if not _NUMBER.fullmatch(folder):
        return False
    try:
        return not is_governed(_get_tracking_store(), folder)
    except MlflowException:
        return False


def _artifact_root() -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return Path(os.path.realpath(local_file_uri_to_path(os.environ[ARTIFACT_ROOT])))  # type: ignore[no-untyped-call]


def _denied(fact: str) -> MlflowException:
    return MlflowException(f"{fact}.", error_code=PERMISSION_DENIED)
