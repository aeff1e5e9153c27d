"""A package's signature: what it covers, and everything that is no signature of it."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP384R1,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from core.errors import DamagedFile, LedgerError, UntrustedSignature
from registry.ledger.entries import PublicKey
from registry.ledger.keys import SigningKey, write_new_key
from registry.ledger.packaging_key import (
    PackagingKey,
    create_packaging_key,
    load_packaging_key,
    public_pem,
    read_packaging_key,
)
from registry.release.package_signature import (
    SIGNATURE,
    check_signature,
    digest_of_package,
    package_digests,
    sign_package,
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackagingKey:
    return create_packaging_key(tmp_path_factory.mktemp("home") / "keys/packaging.pem")


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> PackagingKey:
    return create_packaging_key(tmp_path_factory.mktemp("other") / "keys/packaging.pem")


@pytest.fixture
def signed(tmp_path: Path, key: PackagingKey) -> Path:
    """A package with a file in a folder, and one that git and model_signing leave out."""
    folder = tmp_path / "package"
    (folder / "adapter").mkdir(parents=True)
    (folder / "adapter/weights.safetensors").write_bytes(b"1234")
    (folder / "package.json").write_text("{}")
    (folder / ".gitignore").write_text("adapter")
    sign_package(folder, key)
    return folder


def bundle_of(folder: Path) -> Any:
    return json.loads((folder / SIGNATURE).read_bytes())


def write_bundle(folder: Path, bundle: Any) -> None:
    (folder / SIGNATURE).write_text(json.dumps(bundle))


def with_statement(folder: Path, change: Callable[[Any], object]) -> None:
    """Edit what was signed, as somebody without the key can."""
    bundle = bundle_of(folder)
    envelope = bundle["dsseEnvelope"]
    statement = json.loads(base64.b64decode(envelope["payload"]))
    change(statement)
    text = json.dumps(statement).encode()
    envelope["payload"] = base64.b64encode(text).decode()
    write_bundle(folder, bundle)


def test_a_package_is_signed_whole_and_its_digest_stays(
    signed: Path, key: PackagingKey
) -> None:
    before = digest_of_package(signed)
    assert check_signature(signed, [key.public]) == key.public
    (signed / SIGNATURE).unlink()
    assert digest_of_package(signed) == before
    assert set(package_digests(signed)) == {
        "adapter/weights.safetensors",
        "package.json",
        ".gitignore",
    }


def test_a_package_is_signed_again_with_another_key(
    signed: Path, key: PackagingKey, another: PackagingKey
) -> None:
    sign_package(signed, another)
    assert check_signature(signed, [key.public, another.public]) == another.public
    with pytest.raises(UntrustedSignature, match="none that counts"):
        check_signature(signed, [key.public])


def test_signing_and_verifying_ask_no_network(
    signed: Path, key: PackagingKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sign_package(signed, key)
    check_signature(signed, [key.public])


def test_anybody_verifies_it_with_the_tool_of_model_signing(
    signed: Path, key: PackagingKey, tmp_path: Path
) -> None:
    public = tmp_path / "packaging.pub"
    public.write_bytes(public_pem(key.public))
    command = [sys.executable, "-m", "model_signing", "verify", "key"]
    given = ["--signature", str(signed / SIGNATURE), "--public_key", str(public)]
    # The fixture holds a file that the tool leaves out by default; packages hold none.
    given.append("--no-ignore-git-paths")
    verify = [*command, str(signed), *given]
    run = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    (signed / "package.json").write_text("[]")
    run = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert run.returncode != 0


def test_no_key_that_counts_is_no_signature(signed: Path) -> None:
    with pytest.raises(UntrustedSignature, match="none that counts"):
        check_signature(signed, [])


def change_a_byte(folder: Path) -> None:
    (folder / "adapter/weights.safetensors").write_bytes(b"1235")


def empty_a_file(folder: Path) -> None:
    (folder / "package.json").write_text("")


def remove_a_file(folder: Path) -> None:
    (folder / "adapter/weights.safetensors").unlink()


def add_a_file(folder: Path) -> None:
    (folder / "adapter/more.json").write_text("{}")


def change_what_git_reads(folder: Path) -> None:
    (folder / ".gitignore").write_text("*")


def rename_a_file(folder: Path) -> None:
    (folder / "package.json").rename(folder / "packages.json")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (change_a_byte, "weights.safetensors is not what was signed"),
        (empty_a_file, "package.json is not what was signed"),
        (remove_a_file, "weights.safetensors was signed and is missing"),
        (add_a_file, "more.json is not signed"),
        (change_what_git_reads, ".gitignore is not what was signed"),
        (rename_a_file, "package.json was signed and is missing"),
    ],
)
def test_other_files_than_were_signed_are_named(
    signed: Path, key: PackagingKey, change: Callable[[Path], None], fact: str
) -> None:
    change(signed)
    with pytest.raises(UntrustedSignature, match=fact):
        check_signature(signed, [key.public])


def test_a_symbolic_link_is_refused(signed: Path, key: PackagingKey) -> None:
    path = signed / "package.json"
    path.rename(signed.parent / "elsewhere.json")
    path.symlink_to(signed.parent / "elsewhere.json")
    with pytest.raises(DamagedFile, match="symbolic link"):
        check_signature(signed, [key.public])


def test_a_link_in_the_place_of_the_signature_is_refused(
    signed: Path, key: PackagingKey
) -> None:
    path = signed / SIGNATURE
    path.rename(signed.parent / SIGNATURE)
    path.symlink_to(signed.parent / SIGNATURE)
    with pytest.raises(DamagedFile, match="symbolic link"):
        check_signature(signed, [key.public])


def test_the_librarys_own_look_at_the_files_counts_too(
    signed: Path, key: PackagingKey
) -> None:
    digests = package_digests(signed)
    # Exchanged after the digests were taken.
    change_a_byte(signed)
    with pytest.raises(UntrustedSignature, match="not a signature by key"):
        check_signature(signed, [key.public], digests)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", "[]", "null", "{", "\xff", '{"dsseEnvelope": 3}'),
        pytest.param("[" * 100_000, id="deep"),
    ],
)
def test_what_is_no_signature_is_refused(
    signed: Path, key: PackagingKey, text: str
) -> None:
    (signed / SIGNATURE).write_text(text, encoding="latin-1")
    with pytest.raises(UntrustedSignature, match="is no signature of a package"):
        check_signature(signed, [key.public])


def test_a_missing_or_endless_signature_is_refused(
    signed: Path, key: PackagingKey
) -> None:
    (signed / SIGNATURE).write_bytes(b" " * 10_000_000)
    with pytest.raises(UntrustedSignature, match="is no signature of a package"):
        check_signature(signed, [key.public])
    (signed / SIGNATURE).write_bytes(b" " * 10_000_001)
    with pytest.raises(UntrustedSignature, match="too large"):
        check_signature(signed, [key.public])
    (signed / SIGNATURE).unlink()
    with pytest.raises(UntrustedSignature, match="bears no signature"):
        check_signature(signed, [key.public])
    (signed / SIGNATURE).mkdir()
    with pytest.raises(UntrustedSignature, match="is no file"):
        check_signature(signed, [key.public])
    (signed / SIGNATURE).rmdir()
    # Opened, a pipe would be waited for.
    os.mkfifo(signed / SIGNATURE)
    with pytest.raises(UntrustedSignature, match="is no file"):
        check_signature(signed, [key.public])


def test_a_signature_of_a_foreign_key_under_a_trusted_ones_name_is_refused(
    signed: Path, key: PackagingKey, another: PackagingKey
) -> None:
    hint = bundle_of(signed)["verificationMaterial"]["publicKey"]["hint"]
    sign_package(signed, another)
    bundle = bundle_of(signed)
    bundle["verificationMaterial"]["publicKey"]["hint"] = hint
    write_bundle(signed, bundle)
    with pytest.raises(UntrustedSignature, match="not a signature by key"):
        check_signature(signed, [key.public, another.public])


def test_a_signature_without_the_name_of_a_key_is_refused(
    signed: Path, key: PackagingKey
) -> None:
    bundle = bundle_of(signed)
    bundle["verificationMaterial"]["publicKey"]["hint"] = None
    write_bundle(signed, bundle)
    with pytest.raises(UntrustedSignature, match="is no signature of a package"):
        check_signature(signed, [key.public])


def test_the_signature_of_another_package_is_refused(
    signed: Path, key: PackagingKey, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(signed, other)
    change_a_byte(other)
    sign_package(other, key)
    shutil.copyfile(other / SIGNATURE, signed / SIGNATURE)
    with pytest.raises(UntrustedSignature, match="is not what was signed"):
        check_signature(signed, [key.public])


def cover_the_changed_file(statement: Any) -> None:
    for resource in statement["predicate"]["resources"]:
        if resource["name"] == "package.json":
            # Of the empty file.
            resource["digest"] = (
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            )


def test_an_edited_manifest_is_not_signed_any_more(
    signed: Path, key: PackagingKey
) -> None:
    empty_a_file(signed)
    with_statement(signed, cover_the_changed_file)
    with pytest.raises(UntrustedSignature, match="not a signature by key"):
        check_signature(signed, [key.public])


def leave_out(name: str) -> Callable[[Any], object]:
    def change(statement: Any) -> None:
        statement["predicate"]["serialization"]["ignore_paths"].append(name)

    return change


def weaken(statement: Any) -> None:
    statement["predicate"]["resources"][0]["algorithm"] = "blake2b"


def repeat(statement: Any) -> None:
    resources = statement["predicate"]["resources"]
    resources.append(resources[0])


@pytest.mark.parametrize("change", [leave_out("adapter"), weaken, repeat])
def test_a_manifest_of_another_form_is_refused_before_it_is_verified(
    signed: Path, key: PackagingKey, change: Callable[[Any], object]
) -> None:
    with_statement(signed, change)
    with pytest.raises(UntrustedSignature, match="is no signature of a package"):
        check_signature(signed, [key.public])


def test_a_signature_over_no_file_is_none(tmp_path: Path, key: PackagingKey) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    sign_package(folder, key)
    with pytest.raises(UntrustedSignature, match="over no file"):
        check_signature(folder, [key.public])


def test_a_key_that_verifies_nothing_stands_in_nobodys_way(
    signed: Path, key: PackagingKey
) -> None:
    ed25519 = SigningKey.of(Ed25519PrivateKey.generate(), "packaging").public
    with pytest.raises(LedgerError, match="not on the curve"):
        public_pem(ed25519)
    assert check_signature(signed, [ed25519, key.public]) == key.public
    with pytest.raises(UntrustedSignature, match="none that counts"):
        check_signature(signed, [ed25519])


def test_the_packaging_key_is_kept_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys/packaging.pem"
    made = create_packaging_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert create_packaging_key(path) == load_packaging_key(tmp_path) == made
    path.chmod(0o640)
    with pytest.raises(LedgerError, match="open to other users"):
        load_packaging_key(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    write_new_key(tmp_path / "1.pem", Ed25519PrivateKey.generate())
    write_new_key(tmp_path / "2.pem", generate_private_key(SECP384R1()))
    for path in (tmp_path / "1.pem", tmp_path / "2.pem"):
        with pytest.raises(LedgerError, match="not an ECDSA key on P-256"):
            read_packaging_key(path)


def test_a_key_that_cannot_be_written_or_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="cannot be written"):
        create_packaging_key(tmp_path / "file" / "packaging.pem")
    with pytest.raises(LedgerError, match="is not there"):
        load_packaging_key(tmp_path)


def test_a_key_signs_entries_or_packages_and_never_both(key: PackagingKey) -> None:
    fields = key.public.model_dump()
    for wrong in (
        {"role": "controller"},
        {"role": "admission"},
        {"algorithm": "ed25519"},
        {"public": key.public.public[2:]},
        {"key_id": "0" * 64},
    ):
        with pytest.raises(ValidationError):
            PublicKey.model_validate({**fields, **wrong})
