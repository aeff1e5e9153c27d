"""The Ed25519 keys of this machine, each in a file that nobody else can read.

The ledger knows a key by its role: what the controller decides, and what admission takes from
people. The endpoint has a key of its own, which signs its memory. Packages are signed with a key of
another kind: `registry.ledger.packaging_key`.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import Field

from core.errors import LedgerError
from core.value import Value
from registry.ledger.entries import Digest, Entry, PublicKey, Role


# Not a pydantic value: a private key must never be dumped or logged with its owner.
@dataclass(frozen=True)
class SigningKey:
    """The private half, and what the ledger knows of it."""

    public: PublicKey
    private: Ed25519PrivateKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey, role: Role = "controller") -> "SigningKey":
        """A key that signs in that role."""
        raw = public_bytes(private)
        public = PublicKey(
            role=role,
            key_id=hashlib.sha256(raw).hexdigest(),
            public=raw.hex(),
        )
        return cls(public=public, private=private)

    def sign(self, digest: str) -> str:
        """Sign the 32 bytes of a hash; hash and signature are in hexadecimal."""
        return _sign(digest, self.private)


def public_bytes(private: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public half."""
    public = private.public_key()
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def is_signed(entry: Entry, key: PublicKey) -> bool:
    """Whether the entry's signature is of this key, over the entry's hash."""
    return _verifies(key.public, entry.signature, entry.hash)


def _sign(digest: str, private: Ed25519PrivateKey) -> str:
    signature = private.sign(bytes.fromhex(digest))
    return signature.hex()


def _verifies(public: str, signature: str, digest: str) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), bytes.fromhex(digest))
    except (InvalidSignature, ValueError):
        # A key or signature of the wrong length is a wrong one, too.
        return False
    return True


class Seal(Value):
    """A signature over a digest, and the public key that verifies it (32 bytes, in hexadecimal)."""

    public: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def is_of(self, digest: str) -> bool:
        """Whether that key signed that digest. Whose key it is, the reader must know."""
        return _verifies(self.public, self.signature, digest)


def seal(digest: str, private: Ed25519PrivateKey) -> Seal:
    """Sign a digest that is no ledger entry's."""
    public = public_bytes(private).hex()
    signature = _sign(digest, private)
    return Seal(public=public, signature=signature)


def key_file(home: Path, role: Role = "controller") -> Path:
    """The file of the key that signs the ledger in that role."""
    # A key for each role: a stolen one signs no more than that role may.
    keys = home / "keys"
    return keys / f"{role}.pem"


def create_key(home: Path, role: Role = "controller") -> SigningKey:
    """This machine's key, created where there is none.

    Of several processes at once, one creates it and the others read it. `LedgerError` where it can
    neither be written nor read.
    """
    return create_key_at(key_file(home, role), role)


def load_key(home: Path, role: Role = "controller") -> SigningKey:
    """This machine's key; `LedgerError` where it is missing, damaged, or open to others."""
    return _load(key_file(home, role), role)


def endpoint_key_file(home: Path) -> Path:
    """The file of the key that signs the endpoint's memory; it writes nothing to the ledger."""
    return home / "keys" / "endpoint.pem"


def create_endpoint_key(home: Path) -> Ed25519PrivateKey:
    """The endpoint's key, created where there is none; `LedgerError` as `create_key` raises it."""
    key = create_key_at(endpoint_key_file(home))
    return key.private


def load_endpoint_key(home: Path) -> Ed25519PrivateKey:
    """The endpoint's key; `LedgerError` where it is missing, damaged, or open to others."""
    key = _load(endpoint_key_file(home))
    return key.private


def create_key_at(path: Path, role: Role = "controller") -> SigningKey:
    """Create the key at `path` where there is none, and read it; `LedgerError` where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Never replace a key: entries that it signed would be followed by none.
        if not path.exists():
            write_new_key(path, Ed25519PrivateKey.generate())
    except OSError as error:
        raise LedgerError(
            f"The key {path} cannot be written ({error.strerror})."
            " Make its folder writable for the user that runs Assay."
        ) from error
    return _load(path, role)


def write_new_key(
    path: Path, private: Ed25519PrivateKey | EllipticCurvePrivateKey
) -> None:
    """Write a key whole or not at all, and never over one that is there."""
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    # The mode is given here and not later, so that others can read it at no moment.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        # A link, since a rename would replace a key that is there.
        os.link(temporary, path)
    except FileExistsError:
        return  # another process was first, and its key counts
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _load(path: Path, role: Role = "controller") -> SigningKey:
    private = read_private_key(path)
    if not isinstance(private, Ed25519PrivateKey):
        raise LedgerError(
            f"{path} is not an Ed25519 key. Put the right one back from a backup."
        )
    return SigningKey.of(private, role)


def read_private_key(path: Path) -> PrivateKeyTypes:
    """The key in a file that nobody else can read; `LedgerError` where it is no such file."""
    # A key that others could read is not used, even if it is the right one.
    _check_private(path)
    try:
        return load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise LedgerError(
            f"The key {path} cannot be read ({error.strerror})."
            " Run Assay as the user that owns it."
        ) from error
    # TypeError: the key is encrypted, and nobody gave a password.
    except (ValueError, TypeError) as error:
        raise LedgerError(
            f"{path} is not a whole private key. Put it back from a backup."
        ) from error


def _check_private(path: Path) -> None:
    """Nobody else can read the key, or swap the file."""
    try:
        file_mode = path.stat().st_mode
        folder_mode = path.parent.stat().st_mode
    except OSError as error:
        raise LedgerError(
            f"The key {path} is not there. Put it back from a backup:"
            " without it nothing can be written to the ledger."
        ) from error
    # Any permission of group or others.
    if file_mode & 0o077:
        raise LedgerError(
            f"The key {path} is open to other users. `chmod 600 {path}`,"
            " and rotate it if somebody may have read it."
        )
    # Who may write into the folder can put another file in the place of the key.
    if folder_mode & 0o022:
        raise LedgerError(
            f"Other users can write into {path.parent}, and so swap the key."
            f" `chmod 700 {path.parent}`."
        )


def sync_folder(folder: Path) -> None:
    """Have the kernel write a folder's entries to disk."""
    # Without it a new name in the folder may be lost when the machine stops.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
