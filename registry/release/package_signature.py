"""The signature of a package: made with a packaging key, verified with what the ledger knows of it.

`signature.json` lies in the package and is no part of the package's digest, so that a package can
be signed again. It is what the tool model_signing writes: a manifest of every other file with its
SHA-256, signed. No network is asked.
"""

import base64
import hashlib
import json
import stat
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import DamagedFile, LedgerError, UntrustedSignature
from core.files import digest_of_files, folder_digests, write_text
from core.value import Value
from registry.ledger.entries import PublicKey
from registry.ledger.packaging_key import PackagingKey, public_pem

SIGNATURE = "signature.json"
# The file is parsed before anything says that it is a signature.
_LARGEST = 10_000_000


def package_digests(folder: Path) -> dict[str, str]:
    """`{relative path: sha256}` of the files that make the package: all but its signature.

    `DamagedFile` where there is a symbolic link.
    """
    digests = folder_digests(folder)
    digests.pop(SIGNATURE, None)
    return digests


def digest_of_package(folder: Path) -> str:
    """What the ledger knows the package by; `DamagedFile` where there is a symbolic link."""
    return digest_of_files(package_digests(folder))


def sign_package(folder: Path, key: PackagingKey) -> None:
    """Sign every file of the package; an earlier signature is replaced, whole or not at all."""
    from model_signing import signing

    config = signing.Config()  # type: ignore[no-untyped-call]
    config.use_elliptic_key_signer(private_key=key.path)
    config.set_hashing_config(_hashing())
    # Beside the package it would be signed itself.
    with tempfile.TemporaryDirectory() as scratch:
        signature = Path(scratch) / SIGNATURE
        config.sign(folder, signature)
        write_text(folder / SIGNATURE, signature.read_text(encoding="utf-8"))


def check_signature(
    folder: Path, keys: Iterable[PublicKey], digests: dict[str, str] | None = None
) -> PublicKey:
    """The one of `keys` that signed exactly the files of the package.

    `digests` is what `package_digests` gave a moment ago, so that files are not read once more.
    `UntrustedSignature` where none of them did; `DamagedFile` where there is a symbolic link.
    """
    text = _read_signature(folder)
    signed = _SignedFiles.of(folder, text)
    key = _by_hint(keys).get(signed.hint)
    if key is None:
        raise UntrustedSignature(
            f"{folder / SIGNATURE} was made with key {signed.hint[:12]}, "
            "which is none that counts for this version."
        )
    present = package_digests(folder) if digests is None else digests
    _check_files(folder, signed.files, present)
    _check_by_library(folder, text, key)
    return key


class _SignedFiles(Value):
    """What a signature says of itself; nothing of it is verified yet."""

    hint: str
    files: dict[str, str]

    @classmethod
    def of(cls, folder: Path, text: bytes) -> "_SignedFiles":
        try:
            return cls._parse(json.loads(text))
        # Whatever somebody put there: the parts are missing, of another type, or too deep.
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise UntrustedSignature(
                f"{folder / SIGNATURE} is no signature of a package ({type(error).__name__})."
            ) from error

    @classmethod
    def _parse(cls, bundle: Any) -> "_SignedFiles":
        public_key = bundle["verificationMaterial"]["publicKey"]
        envelope = bundle["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        statement = json.loads(payload)
        predicate = statement["predicate"]
        left_out = predicate["serialization"].get("ignore_paths")
        # Signed with other settings, it could leave files out.
        if left_out != [SIGNATURE]:
            raise ValueError("it leaves files out")
        resources = predicate["resources"]
        files = {each["name"]: _sha256(each) for each in resources}
        if len(files) != len(resources):
            raise ValueError("it names a file twice")
        return cls(
            hint=public_key["hint"],
            files=files,
        )


def _sha256(resource: dict[str, str]) -> str:
    if resource["algorithm"] != "sha256":
        raise ValueError("another digest than SHA-256")
    return resource["digest"]


def _read_signature(folder: Path) -> bytes:
    path = folder / SIGNATURE
    try:
        # A link could lead to another file each time that it is read.
        if path.is_symlink():
            raise DamagedFile(f"{path} is a symbolic link. Put the file itself there.")
        status = path.stat()
        # A pipe would be waited for.
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedSignature(
                f"{path} is no file. Put the signature itself there."
            )
        if status.st_size > _LARGEST:
            raise UntrustedSignature(f"{path} is too large to be a signature.")
        return path.read_bytes()
    except OSError as error:
        raise UntrustedSignature(
            f"{folder} bears no signature that can be read ({error.strerror})."
        ) from error


def _check_files(folder: Path, signed: dict[str, str], present: dict[str, str]) -> None:
    # A signature over nothing is none, also of an empty folder.
    if not signed:
        raise UntrustedSignature(f"{folder / SIGNATURE} was made over no file.")
    names = present.keys() | signed.keys()
    # In order, so that the same package is refused with the same sentence.
    for name in sorted(names):
        fact = ""
        if name not in signed:
            fact = "is not signed"
        elif name not in present:
            fact = "was signed and is missing"
        elif present[name] != signed[name]:
            fact = "is not what was signed"
        if fact:
            path = folder / name
            raise UntrustedSignature(f"{path} {fact}.")


def _check_by_library(folder: Path, text: bytes, key: PublicKey) -> None:
    """Have model_signing verify the signature itself, and every file against it."""
    from model_signing import verifying

    with tempfile.TemporaryDirectory() as scratch:
        # A copy: these bytes, and no later ones, were looked at before.
        signature, public = Path(scratch) / SIGNATURE, Path(scratch) / "public.pem"
        signature.write_bytes(text)
        public.write_bytes(public_pem(key))
        config = verifying.Config()  # type: ignore[no-untyped-call]
        config.use_elliptic_key_verifier(public_key=public)
        config.set_hashing_config(_hashing())
        try:
            config.verify(folder, signature)
        except Exception as error:
            # The library raises whatever its parsers raise; only a return is a yes.
            raise UntrustedSignature(
                f"{folder / SIGNATURE} is not a signature by key {key.key_id[:12]} "
                f"({type(error).__name__})."
            ) from error


def _hashing() -> Any:
    from model_signing import hashing

    config = hashing.Config()  # type: ignore[no-untyped-call]
    # By default it would leave out what git keeps: `.gitignore` and the like.
    return config.set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _by_hint(keys: Iterable[PublicKey]) -> dict[str, PublicKey]:
    """The keys by what a signature calls them."""
    hints = {}
    for key in keys:
        # A key that verifies nothing must not stand in the way of the others.
        with suppress(LedgerError):
            pem = public_pem(key)
            hints[hashlib.sha256(pem).hexdigest()] = key
    return hints
