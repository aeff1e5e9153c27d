"""Signing packages: when a version is registered or adopted, and again by `assay sign`."""

from pathlib import Path

from core.account import login_name
from core.errors import AssayError
from registry.ledger.enrolment import enrol_packaging
from registry.ledger.entries import PublicKey
from registry.ledger.ledger import Ledger
from registry.mlflow.recorded import ModelVersion
from registry.mlflow.store import Store
from registry.release.package_signature import (
    SIGNATURE,
    check_signature,
    sign_package,
)


def sign_own_package(ledger: Ledger, package: Path) -> PublicKey:
    """Sign a package that this process has made, with this home's key; gives its public half.

    `LedgerError` where the key cannot be read or was revoked.
    """
    # The first package of a home finds no key yet.
    key = enrol_packaging(ledger, login_name())
    sign_package(package, key)
    return key.public


def ensure_signed(
    ledger: Ledger, store: Store, version: ModelVersion, package: Path
) -> PublicKey:
    """Have folder and MLflow hold a signature that counts now, and give the key that made it.

    `package` holds the version's files, whose digest was checked. A signature is made only where
    there is none by a key that the ledger trusts, such as after a kill or with an earlier Assay.
    """
    trusted = [key for key in ledger.state().keys if key.role == "packaging"]
    try:
        signer = check_signature(package, trusted)
    except AssayError:
        signer = sign_own_package(ledger, package)
    signature = (package / SIGNATURE).read_bytes()
    # MLflow's may be missing after a kill, or of a key that was replaced.
    if store.signatures.read(version) != signature:
        store.signatures.attach(version, package)
    return signer
