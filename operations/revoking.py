"""`assay revoke`: a version, and the bytes of its adapter under every name, never serve again."""

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.console import say
from core.errors import (
    AssayError,
    ParameterError,
    RegistryError,
    ReleaseError,
    ServingError,
)
from operations.orders import ServedModel, current_project, order_about
from pipelines.values.evidence import Adapter
from registry.release.brakes import revoke

if TYPE_CHECKING:
    from registry.ledger.ledger import Ledger
    from registry.ledger.state import LedgerState
    from registry.mlflow.recorded import ModelVersion

# As MLflow counts versions: an alias could move between typing and revoking.
_VERSION_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


@dataclass(frozen=True)
class Revocation:
    """A version that is revoked, and what serves now."""

    version: str
    served: ServedModel
    ledger: "Ledger"


def revoke_version(model: str | None, version: str, reason: str) -> Revocation:
    """Revoke a version that the ledger or MLflow knows.

    Call `publish_revocation` afterwards. `ParameterError` where the version is no number or is
    unknown; `ReleaseError` or `ServingError` where the endpoint does not obey yet: the entry is
    in the ledger then.
    """
    if not _VERSION_NUMBER.fullmatch(version):
        raise ParameterError(
            f"{version!r} is no version number. "
            "`assay history` lists versions; give one such as 3."
        )
    ordered = order_about(model, reason)
    ledger = ordered.context.ledger
    # The ledger does not know an unjudged version, so MLflow must name it and its adapter.
    unjudged = _find_unjudged(ordered.model, version, ledger.state())
    adapter = None if unjudged is None else _find_adapter(unjudged)
    try:
        ledger_state = revoke(
            ordered.model,
            version,
            ordered.order,
            ordered.context,
            is_registered=unjudged is not None,
            adapter_sha256=adapter,
        )
    except (ReleaseError, ServingError):
        # The entry may be in the ledger, though the endpoint does not obey it yet.
        _remember(ledger, ordered.model, version)
        raise
    return Revocation(version, ServedModel(ordered.model, ledger_state), ledger)


def publish_revocation(revocation: Revocation) -> None:
    """Write a revocation on the version's page and at the witness, where they answer at once.

    Otherwise the controller does it later.
    """
    model = revocation.served.model
    _remember(revocation.ledger, model, revocation.version)


def _remember(ledger: "Ledger", model: str, version: str) -> None:
    from operations.remembered import remember_elsewhere

    with suppress(AssayError):
        ledger_state = ledger.state()
        # The order may have failed before anything was entered.
        if version in ledger_state.model(model).revoked:
            remember_elsewhere(current_project(), ledger, ledger_state, model, version)


def _find_unjudged(
    model: str, version: str, ledger_state: "LedgerState"
) -> "ModelVersion | None":
    """Give a version that MLflow knows and the ledger does not; None where the ledger judged it.

    Without MLflow the ledger alone decides. A version that neither knows is a typing error.
    """
    judged = {(entry.model, entry.version) for entry in ledger_state.judged.values()}
    if (model, version) in judged:
        return None
    from registry.mlflow.home_store import open_store
    from registry.mlflow.retained import is_missing

    try:
        store = open_store(current_project())
        if is_missing(store.uri):
            # A database that was lost is as good as a server that is away.
            return None
        registered = store.known(model, version)
    except RegistryError:
        return None
    if registered is None:
        raise ParameterError(
            f"There is no version {version} of {model}, neither in the ledger nor in MLflow. "
            "Look for a slip."
        )
    return registered


def _find_adapter(version: "ModelVersion") -> str | None:
    """Give the digest of a version's adapter, so that the same bytes are revoked under every name.

    None, with a sentence to the user, where they cannot be read.
    """
    from flows.run.attempt import fetch_package_of
    from registry.mlflow.home_store import open_store

    project = current_project()
    try:
        # Somebody may register models with MLflow's own client.
        if not version.package_sha256:
            raise RegistryError("it is not one that Assay registered.")
        package = fetch_package_of(open_store(project), version, project.home)
        return Adapter.read(package / "adapter.json").sha256
    except AssayError as error:
        say(
            f"Its adapter is not known ({error}) The revocation holds for version "
            f"{version.version} alone, not for its bytes elsewhere."
        )
        return None
