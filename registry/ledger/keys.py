"""The Ed25519 keys of this machine, each in a file that nobody else can read: the one that signs the ledger, and the endpoint's own."""

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
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
from registry.ledger.entries import Digest, Entry, PublicKey


@dataclass(frozen=True)
class SigningKey:
    """The private half, and what the ledger knows of it."""

    public: PublicKey
    private: Ed25519PrivateKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> "SigningKey":
        """A controller's key."""
        raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        public = PublicKey(
            role="controller", key_id=hashlib.sha256(raw).hexdigest(), public=raw.hex()
        )
        return cls(public=public, private=private)

    def sign(self, digest: str) -> str:
        """Signature over the bytes of a hash, both in hexadecimal."""
        return self.private.sign(bytes.fromhex(digest)).hex()


def is_signed(entry: Entry, key: PublicKey) -> bool:
    """The entry's signature is of this key, over the entry's hash."""
    return _verifies(key.public, entry.signature, entry.hash)


def _verifies(public: str, signature: str, digest: str) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
            bytes.fromhex(signature), bytes.fromhex(digest)
        )
    except (InvalidSignature, ValueError):
        return False
    return True


class Seal(Value):
    """A signature over a digest, and the public key (32 bytes, in hexadecimal) that it verifies with."""

    public: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def is_of(self, digest: str) -> bool:
        """That key signed that digest. Whose key it is, the reader must know."""
        return _verifies(self.public, self.signature, digest)


def seal(digest: str, private: Ed25519PrivateKey) -> Seal:
    """Sign a digest that is no ledger entry's."""
    public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return Seal(
        public=public.hex(), signature=private.sign(bytes.fromhex(digest)).hex()
    )


def key_file(home: Path) -> Path:
    """Where this machine's key lies."""
    return home / "keys" / "controller.pem"


def create_key(home: Path) -> SigningKey:
    """This machine's key, made where there is none. Of several processes at once, one makes it and the others read it."""
    return create_key_at(key_file(home))


def load_key(home: Path) -> SigningKey:
    """This machine's key; `LedgerError` where it is missing, damaged, or open to others."""
    return _load(key_file(home))


def endpoint_key_file(home: Path) -> Path:
    """Where the key lies that signs the endpoint's memory. It writes nothing to the ledger."""
    return home / "keys" / "endpoint.pem"


def create_endpoint_key(home: Path) -> Ed25519PrivateKey:
    """The endpoint's key, made where there is none."""
    return create_key_at(endpoint_key_file(home)).private


def load_endpoint_key(home: Path) -> Ed25519PrivateKey:
    """The endpoint's key; `LedgerError` where it is missing, damaged, or open to others."""
    return _load(endpoint_key_file(home)).private


def create_key_at(path: Path) -> SigningKey:
    """Make the key at `path` where there is none, and read it; `LedgerError` where that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _place(path, Ed25519PrivateKey.generate())
    except OSError as error:
        raise LedgerError(
            f"The key {path} cannot be written ({error.strerror}). Make its folder writable for the user that runs Assay."
        ) from error
    return _load(path)


def _place(path: Path, private: Ed25519PrivateKey) -> None:
    """Whole or not at all, never readable by others for a moment, and never over a key that is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(
                private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            )
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return  # another process was first, and its key is the one
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def _load(path: Path) -> SigningKey:
    _check_closed(path)
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise LedgerError(
            f"The key {path} cannot be read ({error.strerror}). Run Assay as the user that owns it."
        ) from error
    except (ValueError, TypeError) as error:
        raise LedgerError(
            f"{path} is not a whole private key. Put it back from a backup."
        ) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise LedgerError(
            f"{path} is not an Ed25519 key. Put the right one back from a backup."
        )
    return SigningKey.of(private)


def _check_closed(path: Path) -> None:
    """Nobody else can read the key, or swap the file."""
    try:
        file, folder = path.stat().st_mode, path.parent.stat().st_mode
    except OSError as error:
        raise LedgerError(
            f"The key {path} is not there. Put it back from a backup: without it nothing can be written to the ledger."
        ) from error
    if file & 0o077:
        raise LedgerError(
            f"The key {path} is open to other users. `chmod 600 {path}`, and rotate it if somebody may have read it."
        )
    if folder & 0o022:
        raise LedgerError(
            f"Other users can write into {path.parent}, and so swap the key. `chmod 700 {path.parent}`."
        )


def sync_folder(folder: Path) -> None:
    """Have the kernel write a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
