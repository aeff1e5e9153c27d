"""The keys of a home and its ledger: listed, replaced, revoked; and a package signed again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import ReleaseError
from operations.orders import current_project, make_brake_order
from registry.ledger.entries import PublicKey, Role
from registry.ledger.keys import key_file, load_key
from registry.ledger.ledger import open_ledger, read_ledger
from registry.ledger.packaging_key import load_packaging_key
from registry.ledger.rotation import KeyOrder, revoke_key, rotate, rotate_role
from registry.ledger.state import LedgerState, ModelState

if TYPE_CHECKING:
    from registry.mlflow.recorded import ModelVersion

ROLES: tuple[Role, ...] = ("controller", "admission", "packaging")


@dataclass(frozen=True)
class Rotation:
    """The key that signs from now on, and the folder that holds it and belongs in a backup."""

    key_id: str
    folder: Path


@dataclass(frozen=True)
class KnownKey:
    """A key that the ledger knows, and how it stands."""

    key: PublicKey
    is_here: bool
    """Whether this home holds its private half."""
    standing: str


def rotate_key(reason: str, role: Role) -> Rotation:
    """Replace this home's key of a role; `LedgerError` where that cannot be done."""
    home = current_project().home
    ledger = open_ledger(home)
    # A leaked key is replaced also while MLflow is down.
    who = make_brake_order(reason)
    if role == "controller":
        rotate(ledger, home, who.by, who.reason, who.account)
        key_id = load_key(home).public.key_id
    else:
        order = KeyOrder(who.by, who.reason, who.account)
        key_id = rotate_role(ledger, role, order).key_id
    return Rotation(key_id, folder=home / "keys")


def revoke_key_named(name: str, reason: str, *, is_compromised: bool) -> PublicKey:
    """Revoke a key by the beginning of its id; `LedgerError` where that cannot be done."""
    order = make_brake_order(reason)
    home = current_project().home
    # Opening would create a ledger where there is none.
    read_ledger(home)
    ledger = open_ledger(home)
    key_order = KeyOrder(order.by, order.reason, order.account)
    return revoke_key(
        ledger,
        name,
        key_order,
        is_compromised=is_compromised,
    )


def list_keys() -> tuple[KnownKey, ...]:
    """Every key that the ledger knows; those that may sign come first."""
    home = current_project().home
    ledger_state = read_ledger(home).state()
    here = own_key_ids(home)
    known = []
    for key in ledger_state.keys:
        is_here = key.key_id in here
        known.append(KnownKey(key, is_here, "trusted"))
    for revoked in ledger_state.revoked_keys.values():
        key = revoked.key
        standing = f"revoked at entry {revoked.generation}"
        if revoked.compromised_at is not None:
            standing += f", compromised (entry {revoked.compromised_at})"
        is_here = key.key_id in here
        known.append(KnownKey(key, is_here, standing))
    return tuple(known)


def own_key_ids(home: Path) -> dict[str, Role]:
    """The ids of the keys that this home can sign with, each with its role.

    `LedgerError` where a key's file is damaged, or open to others.
    """
    own = {}
    for role in ROLES:
        path = key_file(home, role)
        if not path.exists():
            continue
        # A key of another kind: packages are signed for tools that know no Ed25519.
        is_packaging = role == "packaging"
        key = load_packaging_key(home) if is_packaging else load_key(home, role)
        own[key.public.key_id] = role
    return own


def describe_distrust(ledger_state: LedgerState, key_id: str) -> str:
    """Why the ledger trusts a key no more, or never did; empty where it does."""
    if ledger_state.key(key_id) is not None:
        return ""
    revoked = ledger_state.revoked_keys.get(key_id)
    if revoked is None:
        return "is not one that the ledger trusts"
    return f"was revoked at entry {revoked.generation}"


def _check_not_in_use(model_state: ModelState, version: "ModelVersion") -> None:
    """`ReleaseError` where a release that may be loaded names the signature that is there."""
    # What a rollback goes to is loaded as well.
    releases = [recorded.release for recorded in model_state.served]
    for release in releases:
        is_signed = release.signed_by is not None
        if is_signed and release.package_sha256 == version.package_sha256:
            raise ReleaseError(
                f"Version {version.version} of {version.name} serves, or is what a rollback goes "
                "to, with the signature that it has: another one would keep it from being loaded. "
                "Release another version first."
            )


def sign_version(model: str, version: str) -> PublicKey:
    """Sign the package of a version once more, where its signature is missing or does not count.

    Gives the key. `ReleaseError` where the ledger holds no such version with these bytes.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.run.attempt import fetch_package_of
    from flows.signing import ensure_signed
    from registry.mlflow.home_store import open_store

    project = current_project()
    store, ledger = open_store(project), open_ledger(project.home)
    registered = store.get_version(model, version)
    number = registered.version
    registration = ledger.state().registration(model, number)
    entered = None if registration is None else registration.made.package_sha256
    # MLflow's word for the bytes is not enough: it may have been edited.
    if entered != registered.package_sha256:
        raise ReleaseError(
            f"The ledger does not hold version {number} of {model} with the bytes that MLflow "
            f"names. Answer for it: `assay adopt {number} --model {model} --reason …`."
        )
    _check_not_in_use(ledger.state().model(model), registered)
    package = fetch_package_of(store, registered, project.home)
    return ensure_signed(
        ledger,
        store,
        registered,
        package,
    )
