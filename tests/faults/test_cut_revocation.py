"""A revocation is cut off the ledger's tail, and whatever remembers it is deleted or edited.

Real ledger files and the endpoint's own follower; what it would load is what it obeys.
"""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from core.account import login_name
from core.errors import BrokenLedger
from registry.ledger.audit import KnownHead, export, keep_export, known_heads
from registry.ledger.entries import (
    BaseServed,
    Body,
    HeadAccepted,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
)
from registry.ledger.heads import (
    Memory,
    memory_file,
    read_memory,
    read_record,
    record_file,
)
from registry.ledger.keys import endpoint_key_file
from registry.ledger.ledger import Ledger, open_ledger, read_ledger
from registry.ledger.state import LedgerState
from registry.release.accept import accept_head
from registry.release.context import ChangeRequest
from serving.endpoint.follow import Follower
from tests.support.commands import assay, assay_in
from tests.support.endpoint_system import endpoint
from tests.support.environment import use_home
from tests.support.following import PATIENT, REVOCATION, Seen, start_follower
from tests.support.journey import Package
from tests.support.ledgers import (
    MODEL,
    WHY,
    adapter,
    append_released,
    begun,
    frozen,
    judged,
    rolled_back,
    tamper,
)
from tests.support.released import make_home


class Killed(BaseException):
    """The process is gone."""


class KilledAtRevocation(Ledger):
    """A ledger whose process is killed before it enters a revocation."""

    def append(self, body: Body, expected: LedgerState) -> LedgerState:
        if isinstance(body, Revoked):
            raise Killed
        return super().append(body, expected)


def released(generation: int, model: str, adapter_sha256: str) -> tuple[Body, ...]:
    """The entries of a whole release that follow a generation."""
    judgement = judged("1", model, adapter_sha256=adapter_sha256)
    at = generation + 2
    return (
        judgement,
        begun(at - 1, "1", model, adapter_sha256=adapter_sha256),
        ReleaseSwitched(begun=at),
        ReleaseCompleted(begun=at),
    )


Attack = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1 and 2 were released, version 2 was revoked, and the endpoint saw all of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ASSAY_LEDGER_URL", raising=False)
        home = tmp_path_factory.mktemp("revoked") / "home"
        ledger = open_ledger(home)
        append_released(ledger, "1")
        append_released(ledger, "2")
        assert start_follower(home).serves == "2"
        ledger.append(REVOCATION, ledger.state())
        assert start_follower(home) == Seen(ledger.state(), ())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    shutil.copytree(made, home)
    use_home(monkeypatch, home, tmp_path / "none.db")
    return home


def cut(home: Path, after: int = 9) -> None:
    """Whoever owns the file takes the last entries away."""
    tamper(home, f"DELETE FROM entries WHERE generation > {after}")  # noqa: S608 - a number of this test


def without(*paths: str) -> Attack:
    def attack(home: Path) -> None:
        for name in paths:
            (home / name).unlink()

    return attack


def as_before_the_revocation(home: Path) -> LedgerState:
    """How things would stand had version 2 not been revoked."""
    ledger_state = read_ledger(home).follow(None)
    assert ledger_state.head.generation == 9
    return ledger_state


def with_memory_edited(home: Path) -> None:
    document = json.loads(memory_file(home).read_text())
    document["standing"] = json.loads(as_before_the_revocation(home).model_dump_json())
    memory_file(home).write_text(json.dumps(document))


def with_memory_unsigned(home: Path) -> None:
    as_before_the_revocation(home).write(memory_file(home))


def with_record_edited(home: Path) -> None:
    document = json.loads(record_file(home).read_text())
    document["record"]["revoked"], document["record"]["revoked_adapters"] = {}, []
    head = as_before_the_revocation(home).head
    document["record"]["head"] = head.model_dump()
    record_file(home).write_text(json.dumps(document))


def both(*attacks: Attack) -> Attack:
    def attack(home: Path) -> None:
        for each in attacks:
            each(home)

    return attack


MEMORY, RECORD = "endpoint/standing.json", "keys/head.json"
ATTACKS: dict[str, Attack] = {
    "nothing else": without(),
    "the memory is deleted": without(MEMORY),
    "the memory and its key are deleted": without(MEMORY, "keys/endpoint.pem"),
    "the memory is edited": with_memory_edited,
    "the memory is replaced by one without a signature": with_memory_unsigned,
    "the record is deleted": without(RECORD),
    "the record is edited": with_record_edited,
    "both are deleted": without(MEMORY, RECORD),
    "both and the endpoint's key are deleted": without(
        MEMORY, RECORD, "keys/endpoint.pem"
    ),
    "both are edited": both(with_memory_edited, with_record_edited),
    "the memory is deleted, the record edited": both(
        without(MEMORY), with_record_edited
    ),
    "the memory is edited, the record deleted": both(
        with_memory_edited, without(RECORD)
    ),
}


@pytest.mark.parametrize("how", ATTACKS)
def test_a_revocation_that_was_cut_off_is_an_alarm_and_the_revoked_version_is_not_served(
    home: Path, how: str
) -> None:
    cut(home)
    ATTACKS[how](home)
    seen = start_follower(home, looks=2)
    assert seen.serves in {None, "1"}
    assert any("not obeyed" in alarm for alarm in seen.alarms), seen.alarms
    again = start_follower(home)
    assert again.serves in {None, "1"}
    assert again.alarms


@pytest.mark.parametrize(
    "how", [name for name in ATTACKS if "and the endpoint's key" not in name]
)
def test_the_audit_of_a_ledger_without_its_revocation_fails_and_names_the_next_step(
    home: Path, how: str
) -> None:
    cut(home)
    ATTACKS[how](home)
    done = assay("audit", "verify")
    assert done.exit_code == 1, done.output
    assert "assay audit accept-head" in done.output


def test_with_nothing_left_to_compare_with_the_audit_warns_loudly(home: Path) -> None:
    cut(home)
    without(MEMORY, RECORD, "keys/endpoint.pem")(home)
    done = assay("audit", "verify")
    assert "Warning: no head is known from elsewhere" in done.output
    assert "assay audit accept-head" in done.output


@pytest.mark.parametrize("how", [name for name in ATTACKS if name != "nothing else"])
def test_a_store_that_is_deleted_or_edited_is_an_alarm_also_where_the_ledger_is_whole(
    home: Path, how: str
) -> None:
    (home / "aside").mkdir()
    for path in home.glob("ledger.db*"):
        shutil.copy(path, home / "aside" / path.name)
    cut(home)
    ATTACKS[how](home)
    for path in home.glob("ledger.db*"):
        path.unlink()
    for path in (home / "aside").iterdir():
        shutil.copy(path, home / path.name)
    seen = start_follower(home)
    if (
        how == "the memory and its key are deleted"
    ):  # as on a new machine: the record vouches for the ledger
        assert seen == Seen(read_ledger(home).state(), ())
        return
    assert seen.alarms
    assert seen.serves in {None, "1"}


def test_where_all_agree_nothing_is_said(home: Path) -> None:
    seen = start_follower(home, looks=2)
    assert (seen.serves, seen.alarms) == ("1", ())
    done = assay("audit", "verify")
    assert done.exit_code == 0
    assert "2 heads known from elsewhere agree" in done.output
    assert "Warning" not in done.output


def test_a_memory_that_is_deleted_under_a_running_endpoint_is_written_anew_with_an_alarm(
    home: Path,
) -> None:
    async def follow() -> tuple[str, ...]:
        follower = Follower(home, PATIENT, lambda _: None)
        await follower.look()
        memory_file(home).unlink()
        await follower.look()
        return follower.alarms

    assert "was removed" in asyncio.run(follow())[0]
    memory = read_memory(home)
    assert memory is not None
    assert memory.seal is not None


def test_nothing_is_written_on_top_of_a_ledger_that_was_cut(home: Path) -> None:
    cut(home)
    ledger = open_ledger(home)
    with pytest.raises(BrokenLedger, match="Entry 10 is missing"):
        ledger.append(frozen(), ledger.state())
    assert read_ledger(home).state().head.generation == 9


def test_an_export_that_saw_the_revocation_keeps_it_also_where_the_memory_is_an_older_one(
    home: Path,
) -> None:
    export(read_ledger(home), home / "november.jsonl")
    keep_export(home / "november.jsonl", home)
    cut(home)
    without(MEMORY, RECORD)(home)
    older = home.parent / "older"
    shutil.copytree(home, older)
    shutil.rmtree(older / "exports")
    accepted = assay_in(
        older, "audit", "accept-head", "--reason", "an attacker covers the tracks"
    )
    assert accepted.exit_code == 0
    start_follower(older)
    for name in (MEMORY, RECORD, "ledger.db"):
        shutil.copy(older / name, home / name)
    seen = start_follower(home)
    assert seen.serves != "2"
    assert any("the export november.jsonl" in alarm for alarm in seen.alarms)
    assert any(
        "Version 2 of letters is known as revoked" in alarm for alarm in seen.alarms
    )


def test_a_home_from_before_there_were_records_works_and_is_signed_afterwards(
    home: Path,
) -> None:
    ledger_state = read_ledger(home).state()
    without(RECORD, "keys/endpoint.pem")(home)
    ledger_state.write(memory_file(home))
    assert start_follower(home) == Seen(ledger_state, ())
    memory = read_memory(home)
    assert memory == Memory(standing=ledger_state, seal=memory.seal if memory else None)
    assert memory is not None
    assert memory.seal is not None
    open_ledger(home).append(frozen(), ledger_state)
    record = read_record(home)
    assert record is not None
    assert record.record.head.generation == 11
    assert record.record.revoked == {MODEL: ("2",)}
    assert record.record.revoked_adapters == (adapter("2"),)
    assert start_follower(home).alarms == ()


def test_a_restored_older_ledger_is_accepted_by_one_command_which_revokes_again_what_was_revoked(
    home: Path,
) -> None:
    cut(home)
    before = start_follower(home)
    assert (before.serves, bool(before.alarms)) == ("1", True)
    done = assay("audit", "accept-head", "--reason", "restored the backup of Monday")
    assert done.exit_code == 0, done.output
    assert "Accepted as lost: entry 10" in done.output
    assert "Revoked again: version 2 of letters" in done.output
    bodies = [entry.body for entry in read_ledger(home).entries(after=9)]
    assert [type(body) for body in bodies] == [HeadAccepted, Revoked]
    assert start_follower(home) == Seen(read_ledger(home).state(), ())
    assert assay("audit", "verify").exit_code == 0
    assert (
        f"head accepted by {login_name()}: restored the backup of Monday"
        in assay("history").output
    )
    nothing = assay("audit", "accept-head", "--reason", "once more")
    assert nothing.exit_code == 1
    assert "nothing to accept" in nothing.output + nothing.stderr


def test_an_acceptance_revokes_again_one_adapter_under_two_names(home: Path) -> None:
    """One revocation takes both with it: the second is revoked already when its turn comes."""
    cut(home)
    known = (
        KnownHead(
            generation=99,
            hash="9" * 64,
            where="the witness",
            revoked={"a": ("1",), "b": ("1",)},
            revoked_adapters=("8" * 64,),
        ),
    )
    ledger = open_ledger(home)
    for path in (record_file(home), memory_file(home)):
        path.unlink()
    ledger_state = ledger.state()
    for model in ("a", "b"):
        for body in released(ledger_state.head.generation, model, "8" * 64):
            ledger_state = ledger.append(body, ledger_state)
    done = accept_head(ledger, known, ChangeRequest("olga", "restored", "7 (olga)"))
    assert done.revoked == (("a", "1"), ("b", "1"))
    after = ledger.state()
    assert "8" * 64 in after.revoked_adapters
    assert {
        entry.body.account  # type: ignore[union-attr]
        for entry in ledger.entries(after=ledger_state.head.generation)
    } == {"7 (olga)"}


def test_an_acceptance_that_was_killed_forgets_no_revocation_and_can_be_ended(
    home: Path,
) -> None:
    cut(home)
    ledger = open_ledger(home)
    known = known_heads(home, ledger.state())[0]
    with pytest.raises(Killed):
        accept_head(
            KilledAtRevocation(home, ledger.database),
            known,
            ChangeRequest("olga", "restored"),
        )
    assert isinstance(ledger.entries()[-1].body, HeadAccepted)
    memory_file(home).unlink()  # the head record alone remembers the revocation now
    seen = start_follower(home)
    assert seen.serves in {None, "1"}
    assert any("known as revoked" in alarm for alarm in seen.alarms)
    done = assay("audit", "accept-head", "--reason", "restored")
    assert "Revoked again: version 2 of letters" in done.output
    assert start_follower(home) == Seen(read_ledger(home).state(), ())


def test_bytes_that_no_version_is_left_to_be_revoked_with_stay_in_the_record(
    home: Path,
) -> None:
    cut(home)
    ledger = open_ledger(home)
    lost = KnownHead(
        generation=99,
        hash="9" * 64,
        where="the witness",
        revoked_adapters=("7" * 64, "8" * 64),
    )
    accept_head(
        ledger,
        (*known_heads(home, ledger.state())[0], lost),
        ChangeRequest("olga", "restored"),
    )
    ledger.append(frozen(), ledger.state())
    sealed = read_record(home)
    assert sealed is not None
    assert sealed.record.head == ledger.state().head
    assert {"7" * 64, "8" * 64} <= set(sealed.record.revoked_adapters)


def test_after_a_rotation_of_the_key_all_agree_and_a_cut_still_shows(
    home: Path,
) -> None:
    assert assay("audit", "rotate-key", "--reason", "every year").exit_code == 0
    assert start_follower(home) == Seen(read_ledger(home).state(), ())
    assert assay("audit", "verify").exit_code == 0
    cut(home)
    without(MEMORY)(home)
    seen = start_follower(home)
    assert seen.obeyed is None
    assert any("Entry 12 is missing" in alarm for alarm in seen.alarms)


def test_a_running_endpoint_obeys_an_accepted_head_without_a_restart(
    home: Path,
) -> None:
    cut(home)

    async def follow() -> tuple[tuple[str, ...], tuple[str, ...]]:
        follower = Follower(home, PATIENT, lambda _: None)
        await follower.look()
        before = follower.alarms
        await asyncio.to_thread(assay, "audit", "accept-head", "--reason", "restored")
        await follower.look()
        assert follower.ledger_state == read_ledger(home).state()
        return before, follower.alarms

    before, after = asyncio.run(follow())
    assert "not obeyed" in before[0]
    assert after == ()


def test_a_new_machine_beside_an_old_ledger_asks_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"sqlite:///{home / 'ledger.db'}")
    there = tmp_path / "there"
    (there / "keys").mkdir(parents=True, mode=0o700)
    shutil.copy(home / "keys" / "controller.pem", there / "keys" / "controller.pem")
    seen = start_follower(there)
    assert seen.obeyed is None
    assert "no head record confirms" in seen.alarms[0]
    assert not endpoint_key_file(there).exists()
    assert (
        assay_in(there, "audit", "accept-head", "--reason", "a new machine").exit_code
        == 0
    )
    assert start_follower(there) == Seen(read_ledger(there).state(), ())
    assert start_follower(there) == Seen(read_ledger(there).state(), ())
    without_key = tmp_path / "without_key"
    (without_key / "keys").mkdir(parents=True, mode=0o700)
    shutil.copy(record_file(there), record_file(without_key))
    assert start_follower(without_key) == Seen(read_ledger(there).state(), ())


def test_an_export_of_another_ledger_revokes_nothing_here(
    home: Path, tmp_path: Path
) -> None:
    other = open_ledger(tmp_path / "other")
    append_released(other, "1")
    for _ in range(2):
        append_released(other, "2")
    other.append(
        Revoked(model=MODEL, version="1", by="eve", reason_sha256=WHY), other.state()
    )
    export(other, tmp_path / "forged.jsonl")
    keep_export(tmp_path / "forged.jsonl", home)
    seen = start_follower(home)
    assert (seen.serves, len(seen.alarms)) == ("1", 1)
    assert (
        "the export forged.jsonl remembers entry 14 and does not verify as one of this ledger"
        in seen.alarms[0]
    )
    ledger = open_ledger(home)
    ledger.append(
        rolled_back(3),
        ledger.append(
            BaseServed(by="olga", reason_sha256=WHY, model=MODEL), ledger.state()
        ),
    )
    assert start_follower(home).obeyed == ledger.state(), "the brakes go on"
    assert (
        assay("audit", "accept-head", "--reason", "it is of another ledger").exit_code
        == 0
    )
    assert read_ledger(home).state().model(MODEL).revoked == {"2"}


def test_status_and_doctor_show_what_is_wrong_also_without_an_endpoint(
    home: Path,
) -> None:
    cut(home)
    without(MEMORY)(home)
    for command in ("status", "doctor"):
        assert "Entry 10 is missing" in assay(command).output


def test_the_endpoint_as_a_process_serves_nothing_of_a_ledger_that_lost_its_revocation(
    tiny_base: Path, package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    made = make_home(tiny_base, package.folder, tmp_path)
    made.switch(made.begin("1"))
    released = made.ledger_state.head.generation
    made.revoke("1")
    start_follower(made.path)
    cut(made.path, released)
    memory_file(made.path).unlink()
    with endpoint(made) as running:
        state = made.client.ring()
        assert running.ask().status_code == 404
        assert running.engines() == []
    assert (state.head, state.routes) == (None, {})
    assert any("The ledger is not obeyed: Entry" in alarm for alarm in state.alarms)
