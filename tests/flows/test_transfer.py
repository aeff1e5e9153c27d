"""A version goes from one installation to another: what is taken in, and what is refused.

Two homes, two MLflow databases, two ledgers, keys of their own.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from core.errors import TransferRefused
from core.files import sha256_of
from flows.receive import MOST_AT_ONCE, Receiver
from flows.send import Packed
from operations.sending import Delivery, Errand
from registry.ledger.audit import export
from registry.ledger.chain import signed_entry
from registry.ledger.database import Database
from registry.ledger.entries import (
    Approved,
    KeyAdded,
    KeyRevoked,
    OriginSeen,
    Received,
    Revoked,
)
from registry.ledger.keys import load_key
from registry.ledger.ledger import Ledger, ledger_url
from registry.ledger.rotation import rotate
from registry.mlflow.inbox import TransferAnswer
from registry.mlflow.logins import Login
from registry.mlflow.recorded import RELEASE, RELEASE_REASON
from registry.release.package_signature import SIGNATURE
from registry.release.transfer import LEDGER, PACKAGE, RECORD, TransferRecord
from tests.support.installations import MODEL, Installation, make_scored_package
from tests.support.ledgers import WHY

BY = {"by": "olga", "reason_sha256": WHY}


@pytest.fixture(scope="module")
def package(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scored_package(scored_folder, tmp_path_factory.mktemp("p") / "package")


@pytest.fixture(scope="module")
def origin(
    package: Path, empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installation:
    """Staging: version 1 is registered, signed, judged and approved. Tests copy it."""
    made = Installation.make(tmp_path_factory.mktemp("origin"), empty_mlflow)
    version = made.register(package)
    made.judge(version)
    approval = Approved(
        **BY,
        account="mlflow:olga",
        model=MODEL,
        version="1",
        package_sha256=version.package_sha256,
    )
    made.write(approval)
    return made


@pytest.fixture(scope="module")
def transfer(origin: Installation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The transfer of version 1 as it is sent: tests copy it."""
    return origin.pack(tmp_path_factory.mktemp("transfer") / "whole").folder


@pytest.fixture
def staging(origin: Installation, tmp_path: Path) -> Installation:
    return origin.copy(tmp_path / "staging")


@pytest.fixture
def prod(origin: Installation, empty_mlflow: Path, tmp_path: Path) -> Installation:
    """Another installation, which lists staging."""
    made = Installation.make(tmp_path / "prod", empty_mlflow)
    made.trusts(staging=origin.key)
    return made


@pytest.fixture
def sent(transfer: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(transfer, tmp_path / "sent"))


def received(prod: Installation) -> Received:
    registration = prod.state.registration(MODEL, "1")
    assert registration is not None
    assert registration.received is not None
    return registration.received


def export_again(staging: Installation, sent: Path) -> None:
    """Replace the ledger in a transfer by that of now, and the record with it."""
    export(staging.ledger, sent / LEDGER)
    name_ledger(sent)


def name_ledger(sent: Path) -> None:
    record = TransferRecord.read(sent / RECORD)
    digest = sha256_of(sent / LEDGER)
    record.model_copy(update={"ledger_sha256": digest}).write(sent / RECORD)


def refused(prod: Installation, sent: Path, *words: str) -> None:
    """Nothing of it is in MLflow's models or in the ledger, and the answer says why."""
    answer = prod.get(sent)
    assert answer.version is None
    for word in words:
        assert word in answer.text, answer.text
    assert str(prod.home) not in answer.text
    assert "received" not in prod.kinds
    assert prod.store.holders("challenger") == {}
    assert prod.store.known(MODEL, "1") is None


def test_a_version_arrives_with_its_bytes_its_key_and_who_approved_it(
    prod: Installation, origin: Installation, sent: Path
) -> None:
    answer = prod.get(sent)
    assert answer.version == "1", answer.text
    there = origin.state.registration(MODEL, "1")
    here = prod.state.registration(MODEL, "1")
    assert there is not None
    assert here is not None
    assert here.made == there.made
    assert (here.by, here.account) == ("lena", "5 (lena)")
    entry = received(prod)
    assert entry.made_at == there.at
    assert entry.origin.ledger_id == origin.state.head.ledger_id
    assert [approval.by for approval in entry.approvals] == ["olga"]
    assert entry.released_by is None
    assert entry.transfer_sha256 == sha256_of(sent / RECORD)
    assert entry.signer is not None
    assert entry.signer.key_id in {key.key_id for key in origin.state.keys}


@pytest.mark.ci
def test_an_answer_that_names_another_version_is_not_asked_for(
    prod: Installation,
    origin: Installation,
    package: Path,
    sent: Path,
    tmp_path: Path,
) -> None:
    """Whoever may write to the run there may write its answer, where MLflow has no admission."""
    other = Path(shutil.copytree(package, tmp_path / "other"))
    (other / "notes.txt").write_text("another package")
    prod.register(other)
    digest = sha256_of(sent / RECORD)
    run_id = prod.inbox.send("manager", digest, sent)
    prod.inbox.close(run_id, TransferAnswer(version="1", text="It was received."))
    record = TransferRecord.read(sent / RECORD)
    packed = Packed(sent, digest, "1", record.package_sha256)
    errand = Errand(MODEL, "1", "prod", "it is better", seconds=5.0, waits=False)
    login = Login(server=prod.store.uri, user="manager", password="x")
    delivery = Delivery(
        origin.project, errand, login, until=time.monotonic() + errand.seconds
    )
    with pytest.raises(TransferRefused, match="nothing was asked for"):
        delivery.deliver(packed)
    assert prod.store.holders(RELEASE) == {}
    page = prod.store.get_version(MODEL, "1")
    assert RELEASE_REASON not in prod.store.page_tags(page)


@pytest.mark.ci
def test_the_package_there_is_the_one_that_was_sent(
    prod: Installation, sent: Path, tmp_path: Path
) -> None:
    prod.get(sent)
    version = prod.store.get_version(MODEL, "1")
    fetched = prod.store.fetch(version, tmp_path / "fetched")
    signature = (sent / PACKAGE / SIGNATURE).read_bytes()
    assert (fetched / SIGNATURE).read_bytes() == signature
    assert version.package_sha256 == received(prod).package_sha256


@pytest.mark.ci
def test_to_send_again_makes_no_second_version(
    prod: Installation, staging: Installation, sent: Path, tmp_path: Path
) -> None:
    prod.get(sent)
    assert prod.get(sent).version == "1"
    # The ledger there went on meanwhile: another record, the same package.
    staging.judge(staging.store.get_version(MODEL, "1"))
    later = staging.pack(tmp_path / "later").folder
    assert prod.get(later).version == "1"
    assert prod.kinds.count("received") == 1
    assert prod.kinds.count("origin_seen") == 2
    assert prod.store.known(MODEL, "2") is None


@pytest.mark.ci
def test_a_kill_between_mlflow_and_the_ledger_is_made_good(
    prod: Installation, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is killed writes no answer; a disk that fails writes none either.
    def die(*_: object) -> None:
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("flows.receive.entry_of", die)
        digest = sha256_of(sent / RECORD)
        prod.inbox.send("manager", digest, sent)
        (sentence,) = prod.receive()
        assert "waits: killed" in sentence
    assert "received" not in prod.kinds
    prod.receive()
    assert prod.kinds.count("received") == 1
    assert prod.store.known(MODEL, "2") is None


@pytest.mark.ci
def test_an_upload_that_was_cut_off_is_not_looked_at(
    prod: Installation, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "update_run", die)
        with pytest.raises(KeyboardInterrupt):
            prod.inbox.send("manager", sha256_of(sent / RECORD), sent)
    assert prod.receive() == ()
    assert prod.get(sent).version == "1"


# What is refused.


@pytest.mark.ci
def test_a_ledger_that_nobody_lists_is_refused(
    prod: Installation, origin: Installation, sent: Path
) -> None:
    prod.trusts(dev="0" * 64)
    refused(prod, sent, "is signed by none that environments.yaml lists")


@pytest.mark.ci
def test_without_the_file_nothing_is_looked_at(prod: Installation, sent: Path) -> None:
    # No request to MLflow is made for it, round after round.
    (prod.project.root / "environments.yaml").unlink()
    prod.inbox.send("manager", sha256_of(sent / RECORD), sent)
    assert prod.receive() == ()


def test_a_listed_key_that_a_forger_adds_to_a_ledger_of_their_own_vouches_for_nothing(
    prod: Installation,
    origin: Installation,
    package: Path,
    empty_mlflow: Path,
    tmp_path: Path,
) -> None:
    forger = Installation.make(tmp_path / "forger", empty_mlflow)
    forger.judge(forger.register(package))
    (key,) = origin.state.controller_keys
    forger.write(KeyAdded(**BY, key=key))
    sent = forger.pack(tmp_path / "forged").folder
    refused(prod, sent, "is signed by none that environments.yaml lists")


def edit(lines: list[str]) -> list[str]:
    return [line.replace('"lena"', '"rita"') for line in lines]


def drop_tail(lines: list[str]) -> list[str]:
    return lines[:-2]


def drop_entry(lines: list[str]) -> list[str]:
    return [*lines[:2], *lines[3:]]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (edit, "it was edited"),
        (drop_tail, "does not end with a head"),
        (drop_entry, "it is missing"),
    ],
)
@pytest.mark.ci
def test_a_ledger_that_was_tampered_with_is_refused(
    prod: Installation, sent: Path, change: Callable[[list[str]], list[str]], why: str
) -> None:
    lines = (sent / LEDGER).read_text().splitlines(keepends=True)
    (sent / LEDGER).write_text("".join(change(lines)))
    name_ledger(sent)
    refused(prod, sent, why)


@pytest.mark.ci
def test_a_ledger_that_is_no_ledger_is_refused_without_the_folders_of_this_machine(
    prod: Installation, sent: Path
) -> None:
    (sent / LEDGER).write_text("nonsense")
    name_ledger(sent)
    refused(prod, sent, "ledger.jsonl is not whole JSON lines.")


@pytest.mark.ci
def test_a_ledger_that_the_record_does_not_name_is_refused(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    staging.judge(staging.store.get_version(MODEL, "1"))
    export(staging.ledger, sent / LEDGER)
    refused(prod, sent, "is not the ledger that transfer.json names")


def test_other_bytes_under_the_record_are_refused(
    prod: Installation, sent: Path
) -> None:
    (sent / PACKAGE / "scorecard.json").write_text("{}")
    refused(prod, sent, "vouches for")


@pytest.mark.ci
def test_a_record_of_other_bytes_is_refused(prod: Installation, sent: Path) -> None:
    record = TransferRecord.read(sent / RECORD)
    record.model_copy(update={"package_sha256": "d" * 64}).write(sent / RECORD)
    refused(prod, sent, "holds package", "sent is dddddddddddd")


@pytest.mark.ci
def test_a_version_that_the_ledger_does_not_hold_is_refused(
    prod: Installation, sent: Path
) -> None:
    record = TransferRecord.read(sent / RECORD)
    record.model_copy(update={"version": "9"}).write(sent / RECORD)
    refused(prod, sent, "is not in the ledger that it comes from")


@pytest.mark.ci
def test_another_signature_than_the_origins_is_refused(
    prod: Installation, sent: Path
) -> None:
    from flows.signing import sign_own_package

    sign_own_package(prod.ledger, sent / PACKAGE)
    refused(prod, sent, "is not signed as staging signs")


@pytest.mark.ci
@pytest.mark.parametrize("name", [RECORD, LEDGER, PACKAGE])
def test_a_file_in_the_place_of_a_folder_is_refused_and_not_tried_again(
    prod: Installation, sent: Path, name: str
) -> None:
    place = sent / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("no folder")
    else:
        place.unlink()
        place.mkdir()
        (place / name).write_text("no file")
    run_id = prod.inbox.send("manager", "0" * 64, sent)
    (sentence,) = prod.receive()
    assert f"{name} is something else" in sentence
    answer = prod.inbox.answer(run_id)
    assert answer is not None
    assert answer.version is None
    assert prod.receive() == ()


@pytest.mark.ci
def test_a_transfer_waits_while_the_ledger_here_cannot_be_written(
    prod: Installation, sent: Path
) -> None:
    run_id = prod.inbox.send("manager", sha256_of(sent / RECORD), sent)
    home = prod.home
    assert prod.ledger.state().origins == {}
    impatient = Ledger(home, Database(ledger_url(home), patience=0.2))
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        receiver = Receiver(prod.project, impatient, prod.store)
        (sentence,) = receiver.receive_all()
        # It is downloaded at each try, so that the next one comes later.
        assert receiver.receive_all() == ()
        other.rollback()
    assert "waits: " in sentence
    assert "locked by another writer" in sentence
    assert prod.inbox.answer(run_id) is None
    prod.receive()
    answer = prod.inbox.answer(run_id)
    assert answer is not None
    assert answer.version == "1"


@pytest.mark.ci
def test_a_transfer_that_is_nonsense_is_refused_and_keeps_no_other_waiting(
    prod: Installation, sent: Path, tmp_path: Path
) -> None:
    # Sent first, so that it is looked at first.
    nonsense = tmp_path / "nonsense"
    nonsense.mkdir()
    (nonsense / RECORD).write_text("[]")
    prod.inbox.send("manager", "0" * 64, nonsense)
    assert prod.get(sent).version == "1"
    assert prod.receive() == ()


@pytest.mark.ci
def test_a_run_that_takes_no_answer_keeps_no_other_waiting(
    prod: Installation, sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender says who may write to it."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    nonsense = tmp_path / "nonsense"
    nonsense.mkdir()
    (nonsense / RECORD).write_text("[]")
    closed = prod.inbox.send("eve", "0" * 64, nonsense)
    plain = MlflowClient.set_tag

    def set_tag(client: MlflowClient, run_id: str, key: str, value: str) -> None:
        if run_id == closed:
            raise MlflowException("Permission denied", error_code=1002)
        plain(client, run_id, key, value)

    monkeypatch.setattr(MlflowClient, "set_tag", set_tag)
    assert prod.get(sent).version == "1"
    (sentence,) = prod.receive()
    assert sentence.startswith(f"Transfer {closed} takes no answer")


@pytest.mark.ci
def test_whoever_sends_many_holds_up_nothing_else(
    prod: Installation, tmp_path: Path
) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.mkdir()
    (nonsense / RECORD).write_text("[]")
    for number in range(MOST_AT_ONCE + 2):
        prod.inbox.send("eve", f"{number:064}", nonsense)
    assert len(prod.receive()) == MOST_AT_ONCE
    assert len(prod.receive()) == 2
    assert prod.receive() == ()


def revocation(adapter_sha256: str | None = None) -> Revoked:
    return Revoked(**BY, model=MODEL, version="1", adapter_sha256=adapter_sha256)


def key_revoked(key_id: str, *, is_compromised: bool) -> KeyRevoked:
    return KeyRevoked(**BY, key_id=key_id, is_compromised=is_compromised)


@pytest.mark.ci
def test_what_is_revoked_in_its_origin_is_refused(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    staging.write(revocation())
    export_again(staging, sent)
    refused(prod, sent, "it is revoked there")


@pytest.mark.ci
def test_what_did_not_pass_judge_in_its_origin_is_refused(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    staging.judge(staging.store.get_version(MODEL, "1"), "rejected")
    export_again(staging, sent)
    refused(prod, sent, "`judge` did not pass it there")


@pytest.mark.ci
def test_a_rotation_of_the_listed_key_is_followed(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    # The old key has signed that the new one counts.
    rotate(staging.ledger, staging.home, "olga", "every year")
    staging.judge(staging.store.get_version(MODEL, "1"))
    export_again(staging, sent)
    assert prod.get(sent).version == "1"


@pytest.mark.ci
def test_a_listed_key_that_was_stolen_is_refused(
    prod: Installation, staging: Installation, origin: Installation, sent: Path
) -> None:
    rotate(staging.ledger, staging.home, "olga", "it leaked")
    staging.write(key_revoked(origin.key, is_compromised=True))
    export_again(staging, sent)
    refused(prod, sent, "was revoked there as compromised")


@pytest.mark.ci
def test_what_a_stolen_key_entered_is_refused_also_under_the_new_key(
    prod: Installation, staging: Installation, origin: Installation, sent: Path
) -> None:
    rotate(staging.ledger, staging.home, "olga", "it leaked")
    staging.write(key_revoked(origin.key, is_compromised=True))
    # Whoever runs prod lists the new key, and the old entries are still the thief's.
    prod.trusts(staging=staging.key)
    export_again(staging, sent)
    refused(prod, sent, "which was stolen")


@pytest.mark.ci
def test_a_packaging_key_that_was_stolen_is_refused(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    (key,) = [key for key in staging.state.keys if key.role == "packaging"]
    staging.write(key_revoked(key.key_id, is_compromised=True))
    export_again(staging, sent)
    refused(prod, sent, "revoked as compromised")


@pytest.mark.ci
def test_a_key_of_another_role_is_not_one_to_be_listed(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    (key,) = [key for key in staging.state.keys if key.role == "packaging"]
    prod.trusts(staging=key.key_id)
    refused(prod, sent, "is signed by none")


def test_an_older_export_that_is_sent_again_is_refused(
    prod: Installation, staging: Installation, sent: Path, tmp_path: Path
) -> None:
    newer = Path(shutil.copytree(sent, tmp_path / "newer"))
    staging.judge(staging.store.get_version(MODEL, "1"))
    export_again(staging, newer)
    prod.get(newer)
    # Another file in the same state: the first transfer, before anything else happened there.
    answer = prod.get(sent)
    assert answer.version is None
    assert "it is an older copy" in answer.text


@pytest.mark.ci
def test_a_fork_of_a_ledger_that_was_read_is_refused(
    prod: Installation,
    origin: Installation,
    staging: Installation,
    sent: Path,
    tmp_path: Path,
) -> None:
    fork = origin.copy(tmp_path / "fork")
    version = staging.store.get_version(MODEL, "1")
    staging.judge(version)
    first = Path(shutil.copytree(sent, tmp_path / "first"))
    export_again(staging, first)
    prod.get(first)
    # Put back from a backup and continued: longer, and another history.
    for _ in range(3):
        fork.judge(version)
    export_again(fork, sent)
    answer = prod.get(sent)
    assert answer.version is None
    assert "its ledger was rewritten" in answer.text


@pytest.mark.ci
def test_another_ledger_of_the_same_key_is_refused(
    prod: Installation,
    origin: Installation,
    package: Path,
    empty_mlflow: Path,
    sent: Path,
    tmp_path: Path,
) -> None:
    prod.get(sent)
    # Whoever has the key begins a ledger that knows of no revocation.
    again = Installation.make(tmp_path / "again", empty_mlflow)
    # Without the marks that there was a ledger, which are the forger's to delete.
    mark = shutil.ignore_patterns("opened", "head.json")
    shutil.copytree(origin.home / "keys", again.home / "keys", ignore=mark)
    again.judge(again.register(package))
    answer = prod.get(again.pack(tmp_path / "other").folder)
    assert answer.version is None
    assert "came as staging, and staging was ledger" in answer.text


# What the sender refuses.


@pytest.mark.ci
def test_what_is_not_fit_here_is_not_sent(
    staging: Installation, tmp_path: Path
) -> None:
    staging.write(revocation())
    with pytest.raises(TransferRefused, match="it is revoked there"):
        staging.pack(tmp_path / "sent")


@pytest.mark.ci
def test_what_bears_no_signature_is_not_sent(
    package: Path, empty_mlflow: Path, tmp_path: Path
) -> None:
    dev = Installation.make(tmp_path / "dev", empty_mlflow)
    dev.judge(dev.register(package, signs=False))
    with pytest.raises(TransferRefused, match="`assay sign 1 --model letters`"):
        dev.pack(tmp_path / "sent")


@pytest.mark.ci
def test_a_transfer_holds_no_reason_of_a_person(
    staging: Installation, tmp_path: Path
) -> None:
    # Reasons are about people, and are kept beside the ledger.
    staging.ledger.remember("Kim said so")
    sent = staging.pack(tmp_path / "sent").folder
    assert "Kim said so" not in (sent / LEDGER).read_text()
    lines = [json.loads(line) for line in (sent / LEDGER).read_text().splitlines()]
    assert not any("text" in line for line in lines)


# From one to the next, and what happens later.


@pytest.mark.ci
def test_a_version_goes_on_from_where_it_was_received(
    prod: Installation,
    origin: Installation,
    empty_mlflow: Path,
    sent: Path,
    tmp_path: Path,
) -> None:
    # dev, staging and prod in a row; here they are origin, prod and last.
    last = Installation.make(tmp_path / "last", empty_mlflow)
    last.trusts(prod=prod.key)
    prod.get(sent)
    prod.judge(prod.store.get_version(MODEL, "1"))
    answer = last.get(prod.pack(tmp_path / "on").folder)
    assert answer.version == "1", answer.text
    entry, first = received(last), received(prod)
    assert entry.origin.name == "prod"
    # Its age and its author are those of where it was made, and so is the key that signed it.
    assert (entry.made_at, entry.by) == (first.made_at, "lena")
    assert entry.signer == first.signer


@pytest.mark.ci
def test_a_later_revocation_in_the_origin_raises_an_alarm_and_stops_new_releases(
    prod: Installation,
    staging: Installation,
    sent: Path,
    package: Path,
    tmp_path: Path,
) -> None:
    from flows.receive import describe_origin_revocations

    prod.get(sent)
    assert describe_origin_revocations(prod.state) == ()
    staging.write(revocation())
    later = Path(shutil.copytree(sent, tmp_path / "later"))
    export_again(staging, later)
    assert "it is revoked there" in prod.get(later).text
    (alarm,) = describe_origin_revocations(prod.state)
    assert "letters version 1 was revoked in staging" in alarm
    bodies = [entry.body for entry in prod.ledger.entries()]
    (seen,) = [body for body in bodies if isinstance(body, OriginSeen)][1:]
    assert seen.revoked_adapters == (received(prod).adapter_sha256,)
    # Once it is revoked here too there is nothing left to do.
    prod.write(revocation())
    assert describe_origin_revocations(prod.state) == ()


@pytest.mark.ci
def test_an_entry_of_a_forger_on_top_of_the_ledger_is_refused(
    prod: Installation, staging: Installation, sent: Path
) -> None:
    # The forger's own key signs an entry that follows in every other way.
    assert prod.key != staging.key
    key = load_key(prod.home)
    forged = signed_entry(revocation(), staging.state.at, staging.state, key)
    lines = (sent / LEDGER).read_text().splitlines(keepends=True)
    document = forged.model_dump(mode="json")
    head = {
        "ledger_id": staging.state.head.ledger_id,
        "generation": forged.generation,
        "hash": forged.hash,
    }
    ending = [json.dumps({"entry": document}), json.dumps({"head": head})]
    (sent / LEDGER).write_text("".join(lines[:-1]) + "\n".join(ending) + "\n")
    name_ledger(sent)
    refused(prod, sent, "none that the ledger trusts")
