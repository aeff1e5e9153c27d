"""The key that signs packages: ECDSA on P-256, since model-signing takes no Ed25519.

Its file lies beside the others and is as private. The ledger knows its public half.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from core.errors import LedgerError
from registry.ledger.entries import PublicKey
from registry.ledger.keys import key_file, read_private_key, write_new_key


@dataclass(frozen=True)
class PackagingKey:
    """Where the private half lies, which model-signing reads itself, and the public half."""

    path: Path
    public: PublicKey


def create_packaging_key(path: Path) -> PackagingKey:
    """Create the key at `path` where there is none, and read it; `LedgerError` where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Never replace a key: what it signed would be signed by nobody.
        if not path.exists():
            write_new_key(path, generate_private_key(SECP256R1()))
    except OSError as error:
        raise LedgerError(
            f"The key {path} cannot be written ({error.strerror})."
            " Make its folder writable for the user that runs Assay."
        ) from error
    return read_packaging_key(path)


def read_packaging_key(path: Path) -> PackagingKey:
    """The key at `path`; `LedgerError` where it is missing, damaged, or open to others."""
    public_half = _check_kind(path, read_private_key(path)).public_key()
    point = public_half.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    public = PublicKey(
        role="packaging",
        key_id=hashlib.sha256(point).hexdigest(),
        public=point.hex(),
        algorithm="ecdsa-p256",
    )
    return PackagingKey(path, public)


def _check_kind(path: Path, private: PrivateKeyTypes) -> EllipticCurvePrivateKey:
    curve = private.curve if isinstance(private, EllipticCurvePrivateKey) else None
    # Another curve would give a signature that the ledger's key does not verify.
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(curve, SECP256R1):
        return private
    raise LedgerError(
        f"{path} is not an ECDSA key on P-256. Put the right one back from a backup."
    )


def load_packaging_key(home: Path) -> PackagingKey:
    """This machine's key; `LedgerError` where it is missing, damaged, or open to others."""
    return read_packaging_key(key_file(home, "packaging"))


def public_pem(key: PublicKey) -> bytes:
    """The public half as model-signing reads it; `LedgerError` where the bytes are no such key."""
    try:
        # `ValueError` also of Ed25519's bytes, and of a point that is not on the curve.
        public = EllipticCurvePublicKey.from_encoded_point(
            SECP256R1(), bytes.fromhex(key.public)
        )
    except ValueError as error:
        raise LedgerError(
            f"Key {key.key_id[:12]} cannot verify a package: it is not on the curve P-256."
            " Revoke it: `assay audit revoke-key`."
        ) from error
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
