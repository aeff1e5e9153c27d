"""Where a team's server writes files: nowhere into a registered version of a governed model.

Each kind of artifact repository (a disk, S3, …) keeps its class and gets a check before whatever
writes or deletes. On a disk an upload is checked again when it takes its name: it may have begun
before the version was registered.
"""

import asyncio
import inspect
import os
import posixpath
from collections.abc import Callable
from functools import cache, wraps
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from registry.mlflow.acting import current_account
from registry.mlflow.team.settings import read_team
from registry.mlflow.team.stores import PREFIX

_OF_FILES = (
    "log_artifact",
    "log_artifact_from_stream",
    "log_artifact_from_async_stream",
    "create_multipart_upload",
    "complete_multipart_upload",
    "abort_multipart_upload",
    "create_presigned_upload_url",
)
"""What writes one file below the repository's place."""
_OF_TREES = ("log_artifacts", "delete_artifacts")
_OF_TRACES = (
    "upload_trace_data",
    "upload_archived_trace_data",
    "upload_archived_trace_data_bytes",
    "upload_attachment",
)
_PUBLISH = "_publish_staged_artifact"
_LOCAL = frozenset({"", "file"})
REFERENCES = frozenset({"runs", "models", "mlflow-artifacts", "http", "https"})
"""Addresses that MLflow turns into others, which are then looked at."""
_Opener = Callable[..., Any]


class Location(NamedTuple):
    """A place of files: the machine or bucket, and the path there."""

    root: str
    path: PurePosixPath

    def is_within(self, other: "Location") -> bool:
        """Whether it is the other place or lies below it."""
        if self.root != other.root:
            return False
        # The place itself counts, too.
        if self.path == other.path:
            return True
        return other.path in self.path.parents


def open_files(
    artifact_uri: str, tracking_uri: str | None, registry_uri: str | None
) -> Any:
    """The files at `assay+file:///…`."""
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    address = artifact_uri.removeprefix(PREFIX)
    opener = guarded_opener(LocalArtifactRepository)
    return opener(address, tracking_uri, registry_uri)


def guarded_opener(plain: _Opener) -> _Opener:
    """Open as `plain` does, with the checks before whatever writes or deletes."""

    def open_repository(
        artifact_uri: str,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
    ) -> Any:
        repository = plain(artifact_uri, tracking_uri, registry_uri)
        # The object keeps its kind: MLflow asks by isinstance what a repository can do.
        kind: Any = type(repository)
        repository.__class__ = _guarded_class(kind)
        return repository

    return open_repository


@cache
def _guarded_class(plain: Any) -> Any:
    methods: dict[str, Any] = {}
    for name in (*_OF_FILES, *_OF_TREES, *_OF_TRACES):
        method = getattr(plain, name, None)
        # Not every kind of repository can do everything.
        if method is not None:
            methods[name] = _checked_first(method, name)
    publish = getattr(plain, _PUBLISH, None)
    if publish is not None:
        methods[_PUBLISH] = _checked_publish(publish)
    name = f"Guarded{plain.__name__}"
    return type(name, (plain,), methods)


def _checked_first(plain: Callable[..., Any], name: str) -> Callable[..., Any]:
    signature = inspect.signature(plain)

    def check(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        bound = signature.bind(*positional, **named)
        arguments = dict(bound.arguments)
        repository = arguments.pop("self")
        path = _path_in(arguments)
        target = locate(repository.artifact_uri, path)
        # What is deleted or copied as a tree may hold a version's files.
        is_tree = name in _OF_TREES
        check_writable(target, with_below=is_tree)

    @wraps(plain)
    def method(*positional: Any, **named: Any) -> Any:
        check(positional, named)
        return plain(*positional, **named)

    @wraps(plain)
    async def async_method(*positional: Any, **named: Any) -> Any:
        await asyncio.to_thread(check, positional, named)
        return await plain(*positional, **named)

    return async_method if inspect.iscoroutinefunction(plain) else method


def _checked_publish(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def publish(
        self: Any, temporary: str, destination: str, finalize: Any = None
    ) -> None:
        # Checked again: the version may have been registered while the upload went on.
        target = locate(destination, "")
        check_writable(target, with_below=False)
        plain(
            self,
            temporary,
            destination,
            finalize,
        )

    return publish


def _path_in(arguments: dict[str, Any]) -> str:
    """What is written, relative to the repository's place."""
    folder = arguments.get("artifact_path") or ""
    for name in ("artifact_file_name", "local_file"):
        file = arguments.get(name)
        # The file keeps its name, whichever folder it comes from.
        if file:
            own_name = posixpath.basename(str(file))
            return posixpath.join(str(folder), own_name)
    return str(folder)


def locate(artifact_uri: str, path: str) -> Location:
    """The place itself, whichever address leads there."""
    address = _without_proxy(artifact_uri)
    address = address.removeprefix(PREFIX)
    parts = urlsplit(address)
    if parts.scheme in _LOCAL:
        return _locate_on_disk(address, path)
    below = parts.path.lstrip("/")
    joined = posixpath.join("/", below, path)
    # Dots are resolved before anybody compares: they could lead out of a folder.
    whole = posixpath.normpath(joined)
    resolved = PurePosixPath(whole)
    root = f"{parts.scheme}://{parts.netloc}"
    return Location(
        root=root,
        path=resolved,
    )


def _locate_on_disk(address: str, path: str) -> Location:
    from mlflow.utils.file_utils import local_file_uri_to_path

    folder = local_file_uri_to_path(address)  # type: ignore[no-untyped-call]
    whole = posixpath.join(folder, path)
    # Links are followed: one beside the version's files may lead into them.
    real_path = os.path.realpath(whole)
    return Location(
        root="file",
        path=PurePosixPath(real_path),
    )


def _without_proxy(artifact_uri: str) -> str:
    """Where the server itself puts what clients address by way of it."""
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
    from mlflow.server.handlers import _get_proxied_run_artifact_destination_path

    destination = os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR)
    if urlsplit(artifact_uri).scheme not in REFERENCES or not destination:
        return artifact_uri
    # MLflow has no public name for it, and no types.
    path_of: Any = _get_proxied_run_artifact_destination_path
    below = path_of(artifact_uri)
    return posixpath.join(destination, below)


def check_writable(target: Location, *, with_below: bool) -> None:
    """403 where the target is of a governed version, or with `with_below` holds one."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    team = read_team()
    if current_account() == team.service:
        return
    for place in _governed_places():
        holds_it = with_below and place.is_within(target)
        if target.is_within(place) or holds_it:
            raise MlflowException(
                "These files are of a registered version of a model that Assay governs: "
                f"they are written by the account {team.service!r} alone.",
                error_code=PERMISSION_DENIED,
            )


def _governed_places() -> list[Location]:
    from mlflow.server.handlers import _get_tracking_store

    from registry.mlflow.team.reach import GovernedVersions

    versions = GovernedVersions(read_team())
    return [locate(each, "") for each in versions.locations(_get_tracking_store())]
