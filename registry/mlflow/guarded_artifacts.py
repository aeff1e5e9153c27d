"""Where MLflow's server reads and writes files: under its own artifact root alone.

An experiment that was made earlier may name any place. So the place is checked whenever a file is
read or written, and again when a finished upload takes its name.
"""

import os
import re
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from registry.mlflow.accounts import SERVICE
from registry.mlflow.acting import current_account
from registry.mlflow.guarded_stores import is_governed

_NUMBER = re.compile(r"[0-9]{1,18}")
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
"""The variable by which MLflow's server knows its artifact root."""


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
        # Checked again: links may have changed while the upload went on.
        self._check_writable(destination_file_path)
        super()._publish_staged_artifact(
            temp_file_path, destination_file_path, finalize_temp_path
        )

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Copy a folder, where the account may write."""
        self._check_writable(artifact_path)
        super().log_artifacts(local_dir, artifact_path)  # type: ignore[no-untyped-call]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete, where the account may write."""
        self._check_writable(artifact_path)
        super().delete_artifacts(artifact_path)  # type: ignore[no-untyped-call]

    def get_local_path(self, artifact_path: str) -> str:
        """The file itself, if it is below the root whatever links lead to it."""
        local_path = str(super().get_local_path(artifact_path))
        self._check_inside(Path(local_path))
        return local_path

    def _check_inside(self, path: Path) -> tuple[str, ...]:
        """The parts of the real path below the root."""
        root = _artifact_root()
        # Links are followed: one inside of the root may lead anywhere.
        real_path = Path(os.path.realpath(path))
        if real_path != root and root not in real_path.parents:
            raise _make_denial(
                f"The artifact location {self.artifact_uri[:200]} "
                "is not under this server's artifact root"
            )
        return real_path.relative_to(root).parts

    def _check_writable(self, artifact_path: str | None) -> None:
        path = Path(self.artifact_dir, artifact_path or "")
        parts = self._check_inside(path)
        account = current_account()
        if account is None or account == SERVICE:
            return
        # The root itself belongs to no experiment, so to nobody but the service account.
        if not account or not parts or not _is_peoples_own(parts[0]):
            raise _make_denial(
                f"Files of Assay's experiment are written by the account {SERVICE!r} alone. "
                "Use an experiment of your own"
            )


def refuse_address(artifact_uri: str, **_: Any) -> Any:
    """Refuse an address of another machine: this server keeps files on its own disk alone.

    `MlflowException` always.
    """
    scheme = artifact_uri.split(":", 1)[0]
    raise _make_denial(f"This server keeps no artifacts at {scheme[:20]}://")


def _is_peoples_own(folder: str) -> bool:
    """Whether a folder below the root is that of an experiment which is not Assay's."""
    from mlflow.server.handlers import _get_tracking_store

    # An experiment's folder has its number. Assay's own runs are beside them, under their ids.
    if not _NUMBER.fullmatch(folder):
        return False
    try:
        return not is_governed(_get_tracking_store(), folder)
    except MlflowException:
        return False


def _artifact_root() -> Path:
    from mlflow.utils.file_utils import local_file_uri_to_path

    root = local_file_uri_to_path(os.environ[ARTIFACT_ROOT])  # type: ignore[no-untyped-call]
    return Path(os.path.realpath(root))


def _make_denial(fact: str) -> MlflowException:
    return MlflowException(f"{fact}.", error_code=PERMISSION_DENIED)
