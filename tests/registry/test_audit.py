"""Whatever is done to the ledger by hand, the audit names the first bad entry.

An export is enough to do it.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.account import login_name
from core.errors import BrokenLedger, LedgerError
from operations.history import HistoryEntry, history_entries
from registry.ledger.audit import (
    NOTHING_KNOWN,
    AuditReport,
    KnownHead,
    export,
    keep_export,
    known_heads,
    restore_ledger,
    verify,
    verify_export,
)
from registry.ledger.database import Database
from registry.ledger.entries import BaseServed, Entry, ReleaseAborted, Revoked, Waived
from registry.ledger.heads import record_file
from registry.ledger.keys import create_key, key_file
from registry.ledger.ledger import Ledger, ledger_url, open_ledger, read_ledger
from registry.ledger.rotation import rotate
from registry.ledger.state import LedgerState
from tests.support.commands import assay
from tests.support.environment import use_home
from tests.support.ledgers import (
    MODEL,
    START,
    append_released,
    begun,
    frozen,
    judged,
    rolled_back,
    tamper,
    unfrozen,
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a ledger of nine entries: two releases, and the key."""
    home = tmp_path / "home"
    use_home(monkeypatch, home, tmp_path / "none.db")
    ledger = open_ledger(home)
    append_released(ledger, "1")
    append_released(ledger, "2")
    return home


def audited(home: Path, *known: KnownHead) -> AuditReport:
    return verify(read_ledger(home), known)


def known(ledger: Ledger, generation: int | None = None) -> KnownHead:
    entry = ledger.entries()[(generation or 0) - 1]
    return KnownHead(
        generation=entry.generation, hash=entry.hash, where="the endpoint's memory"
    )


def test_a_ledger_that_was_left_alone_is_whole(home: Path) -> None:
    report = audited(home, known(read_ledger(home)), known(read_ledger(home), 4))
    assert report.is_whole
    assert (report.whole_up_to, report.bad_entry, report.known_heads, report.notes) == (
        9,
        None,
        2,
        (),
    )


def test_without_a_known_head_the_audit_says_what_it_cannot_see(home: Path) -> None:
    assert audited(home).notes == (NOTHING_KNOWN,)


@pytest.mark.parametrize(
    ("statement", "bad", "words"),
    [
        (
            "UPDATE entries SET body = replace(body, 'rita', 'evie') WHERE generation = 3",
            3,
            "edited",
        ),
        (
            "UPDATE entries SET at = '2026-01-01T00:00:00.000000+00:00' WHERE generation = 4",
            4,
            "older",
        ),
        (
            "UPDATE entries SET at = '2126-01-01T00:00:00.000000+00:00' WHERE generation = 4",
            4,
            "edited",
        ),
        (
            (
                "UPDATE entries SET signature = (SELECT signature FROM entries WHERE generation "
                "= 6) WHERE generation = 5"
            ),
            5,
            "signature",
        ),
        (
            (
                "UPDATE entries SET hash = replace(hash, substr(hash, 1, 8), '00000000') WHERE "
                "generation = 5"
            ),
            5,
            "edited",
        ),
        ("UPDATE entries SET key_id = hash WHERE generation = 5", 5, "edited"),
        ("DELETE FROM entries WHERE generation = 1", 1, "missing"),
        ("DELETE FROM entries WHERE generation = 6", 6, "missing"),
        ("UPDATE entries SET body = 'gone' WHERE generation = 7", 7, "not JSON"),
        (
            "UPDATE entries SET body = CAST(x'7b22ff227d' AS TEXT) WHERE generation = 7",
            7,
            "not JSON",
        ),
        (
            "UPDATE entries SET signature = CAST(x'ff' || signature AS TEXT) WHERE generation = 9",
            9,
            "no entry",
        ),
        ("UPDATE entries SET hash = 'gone' WHERE generation = 9", 9, "no entry"),
        (
            "UPDATE entries SET at = '0001-01-01T00:00:00.000000+05:00' WHERE generation = 4",
            4,
            "beyond the calendar",
        ),
    ],
)
def test_an_edited_or_dropped_row_is_named(
    home: Path, statement: str, bad: int, words: str
) -> None:
    tamper(home, statement)
    report = audited(home)
    assert (report.is_whole, report.bad_entry, report.whole_up_to) == (
        False,
        bad,
        bad - 1,
    )
    assert words in (report.problem or "")
    assert f"Entry {bad} " in (report.problem or "")


def test_the_first_of_two_bad_entries_is_named_even_where_the_second_does_not_parse(
    home: Path,
) -> None:
    tamper(
        home,
        "UPDATE entries SET body = replace(body, 'rita', 'evie') WHERE generation = 3",
        "UPDATE entries SET body = '' WHERE generation = 5",
    )
    assert audited(home).bad_entry == 3


def test_a_row_that_was_put_before_the_first_one_is_named(home: Path) -> None:
    ours = read_ledger(home).state()
    tamper(
        home,
        "INSERT INTO entries SELECT 0, at, kind, body, previous, key_id, previous, signature "
        "FROM entries WHERE generation = 1",
    )
    assert "Entry 0 " in (audited(home).problem or "")
    assert open_ledger(home).follow(ours) == ours, (
        "whoever has verified its entries goes on, and can brake"
    )


def test_dropped_and_renumbered_rows_are_named(home: Path) -> None:
    tamper(
        home,
        "DELETE FROM entries WHERE generation = 6",
        "UPDATE entries SET generation = generation - 1 WHERE generation > 6",
    )
    assert audited(home).bad_entry == 6


def test_exchanged_rows_are_named(home: Path) -> None:
    move = "UPDATE entries SET generation = %d WHERE generation = %d"
    tamper(home, *(move % places for places in ((99, 4), (4, 6), (6, 99))))
    assert audited(home).bad_entry == 4


def signed_by_a_stranger(home: Path, tmp_path: Path, body: object) -> None:
    """Write an entry on top with a key of one's own and no check."""
    from registry.ledger.chain import signed_entry
    from registry.ledger.ledger import _row

    ledger_state = read_ledger(home).state()
    entry = signed_entry(
        body,  # type: ignore[arg-type]
        ledger_state.at,
        ledger_state,
        create_key(tmp_path / "stranger"),
    )
    columns = _row(entry)
    with closing(
        sqlite3.connect(home / "ledger.db", isolation_level=None)
    ) as connection:
        connection.execute(
            "INSERT INTO entries VALUES (:generation, :at, :kind, :body, :previous, :key_id, "
            ":hash, :signature)",
            columns,
        )


def test_a_foreign_signature_is_named(home: Path, tmp_path: Path) -> None:
    signed_by_a_stranger(home, tmp_path, frozen())
    report = audited(home)
    assert report.bad_entry == 10
    assert "none that the ledger trusts" in (report.problem or "")


def test_an_illegal_entry_is_named_even_if_the_right_key_signed_it(
    home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "keys", tmp_path / "stranger" / "keys")
    signed_by_a_stranger(home, tmp_path, unfrozen())
    report = audited(home)
    assert report.bad_entry == 10
    assert "does not follow: releases are not frozen" in (report.problem or "")


def test_a_cut_tail_shows_where_somebody_remembers_more(home: Path) -> None:
    head = known(read_ledger(home))
    tamper(home, "DELETE FROM entries WHERE generation > 5")
    assert audited(home).is_whole
    report = audited(home, head)
    assert (report.bad_entry, report.whole_up_to) == (6, 5)
    assert "tail was cut off or an old copy" in (report.problem or "")


def test_an_old_copy_that_went_on_shows_as_a_fork(home: Path, tmp_path: Path) -> None:
    ledger = open_ledger(home)
    for path in home.glob("ledger.db*"):
        shutil.copy(path, tmp_path / path.name)
    ledger.append(frozen(), ledger.state())
    head = known(ledger)
    for path in tmp_path.glob("ledger.db*"):
        shutil.copy(path, home / path.name)
    assert audited(home, head).bad_entry == 10
    again = open_ledger(home)
    with pytest.raises(
        BrokenLedger, match=r"Entry 10 is missing, though .*head\.json remembers it"
    ):
        again.append(judged("3"), again.state())
    record_file(home).unlink()
    again.append(judged("3"), again.state())
    report = audited(home, head)
    assert report.bad_entry == 10
    assert "remembers another one" in (report.problem or "")


def test_another_ledger_in_its_place_shows(home: Path) -> None:
    head = known(read_ledger(home), 1)
    for path in home.glob("ledger.db*"):
        path.unlink()
    (home / "keys").rename(home / "keys.before")
    append_released(open_ledger(home))
    assert audited(home, head).bad_entry == 1


def test_an_edited_reason_shows_and_an_erased_one_does_no_harm(home: Path) -> None:
    ledger = open_ledger(home)
    why = ledger.remember("it was too slow")
    tamper(home, "UPDATE texts SET text = 'it was fine'")
    assert "was edited" in (audited(home).problem or "")
    for no_text in ("CAST(x'ff' AS TEXT)", "x'ff'"):
        tamper(home, f"UPDATE texts SET text = {no_text}")  # noqa: S608 - a constant of this test
        assert "was edited" in (audited(home).problem or "")
        assert assay("history").exit_code == 0
    ledger.erase(why)
    assert audited(home).is_whole


def test_an_emptied_ledger_is_no_ledger(home: Path) -> None:
    tamper(home, "DELETE FROM entries")
    with pytest.raises(LedgerError, match="There was a ledger here"):
        read_ledger(home)
    assert "has no entry" in (verify(emptied(home)).problem or "")


def emptied(home: Path) -> Ledger:
    """As one that was opened before."""
    return Ledger(home, Database(ledger_url(home)))


def exported(
    home: Path, name: str = "export.jsonl", *, with_texts: bool = False
) -> Path:
    path = home.parent / name
    export(read_ledger(home), path, with_texts=with_texts)
    return path


def rewritten(path: Path, change: object) -> AuditReport:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = change(lines)  # type: ignore[operator]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return verify_export(path)


def test_an_export_is_verified_without_the_database(home: Path) -> None:
    head = known(read_ledger(home))
    path = exported(home)
    shutil.rmtree(home)
    report = verify_export(path, [head])
    assert report.is_whole
    assert report.whole_up_to == 9


def test_a_changed_export_is_named(home: Path) -> None:
    def edit(
        lines: list[dict[str, dict[str, object]]],
    ) -> list[dict[str, dict[str, object]]]:
        lines[2]["entry"]["body"]["by"] = "eve"  # type: ignore[index]
        return lines

    assert rewritten(exported(home), edit).bad_entry == 3
    assert (
        rewritten(exported(home), lambda lines: [*lines[:3], *lines[4:]]).bad_entry == 4
    )
    cut = rewritten(exported(home), lambda lines: lines[:5])
    assert (cut.bad_entry, "end was cut off" in (cut.problem or "")) == (6, True)
    assert not rewritten(exported(home), lambda lines: [*lines[:5], lines[-1]]).is_whole
    assert not rewritten(
        exported(home), lambda lines: [*lines, {"nonsense": 1}]
    ).is_whole
    assert not rewritten(exported(home), lambda _: []).is_whole


def test_a_file_that_is_no_export_is_said_so(home: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert "not whole JSON lines" in (verify_export(tmp_path / "x").problem or "")
    with pytest.raises(LedgerError, match="cannot be read"):
        verify_export(tmp_path / "nowhere")
    with pytest.raises(LedgerError, match="cannot be written"):
        export(read_ledger(home), Path("/proc/nowhere/x.jsonl"))


def test_an_export_that_the_ledger_has_outgrown_is_whole_and_says_how_far_others_saw(
    home: Path,
) -> None:
    first = known(read_ledger(home))
    path = exported(home)
    open_ledger(home).append(frozen(), read_ledger(home).state())
    later = known(read_ledger(home))
    report = verify_export(path, [first, later])
    assert (report.is_whole, report.known_heads) == (True, 1)
    assert "remembers entry 10" in report.notes[0]
    assert NOTHING_KNOWN in verify_export(path, [later]).notes
    assert not verify_export(
        path, [KnownHead(generation=9, hash="0" * 64, where="a page"), later]
    ).is_whole


def test_an_export_replaces_an_older_one_and_nothing_else(
    home: Path, tmp_path: Path
) -> None:
    before = (home / "ledger.db").read_bytes()
    for path in (home / "ledger.db", key_file(home), tmp_path):
        with pytest.raises(LedgerError, match="is no export"):
            export(read_ledger(home), path)
    assert (home / "ledger.db").read_bytes() == before
    assert exported(home) == exported(home)


def test_a_broken_ledger_is_not_exported(home: Path) -> None:
    tamper(home, "DELETE FROM entries WHERE generation = 6")
    with pytest.raises(BrokenLedger, match="Entry 6"):
        exported(home)
    assert not (home.parent / "export.jsonl").exists()


def test_only_an_export_with_reasons_holds_them_and_then_it_is_for_its_owner(
    home: Path,
) -> None:
    open_ledger(home).remember("Ms Miller complained")
    assert "Miller" not in exported(home).read_text()
    path = exported(home, with_texts=True)
    assert "Miller" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    report = rewritten(
        path,
        lambda lines: [
            {**line, "text": "nobody"} if "text" in line else line for line in lines
        ],
    )
    assert "was edited" in (report.problem or "")
    report = rewritten(
        path,
        lambda lines: [
            {**line, "text": "\ud800"} if "text" in line else line for line in lines
        ],
    )
    assert "was edited" in (report.problem or "")


def test_a_ledger_restored_from_an_export_is_the_same_and_goes_on(
    home: Path, tmp_path: Path
) -> None:
    ledger = open_ledger(home)
    why = ledger.remember("because")
    path = exported(home, with_texts=True)
    restored = restore_ledger(path, tmp_path / "new")
    assert restored.entries() == ledger.entries()
    assert restored.recall(why) == "because"
    shutil.copytree(home / "keys", tmp_path / "new" / "keys")
    assert (
        open_ledger(tmp_path / "new").append(frozen(), restored.state()).head.generation
        == 10
    )
    with pytest.raises(LedgerError, match="has other entries already"):
        restore_ledger(path, tmp_path / "new")


def test_a_changed_export_restores_nothing(home: Path, tmp_path: Path) -> None:
    path = exported(home)
    rewritten(path, lambda lines: [*lines[:3], *lines[4:]])
    with pytest.raises(BrokenLedger, match="Entry 4"):
        restore_ledger(path, tmp_path / "new")
    assert not (tmp_path / "new" / "ledger.db").exists()


def test_an_export_is_remembered_whatever_its_file_is_called(home: Path) -> None:
    keep_export(exported(home, "one.json"), home)
    assert [each.where for each in known_heads(home)[0]][1:] == [
        "the export one.json.jsonl"
    ]


def test_endpoint_and_exports_of_the_home_are_known_heads_and_damage_is_said(
    home: Path,
) -> None:
    ledger_state = read_ledger(home).state()
    (home / "endpoint").mkdir()
    (home / "endpoint" / "standing.json").write_text(ledger_state.model_dump_json())
    keep_export(exported(home, "one.jsonl"), home)
    heads, notes = known_heads(home)
    assert [(each.generation, each.hash, each.where) for each in heads] == [
        (9, ledger_state.head.hash, f"the head record {record_file(home)}"),
        (9, ledger_state.head.hash, "the endpoint's memory"),
        (9, ledger_state.head.hash, "the export one.jsonl"),
    ]
    assert notes == ()
    (home / "endpoint" / "standing.json").write_text("{")
    (home / "exports" / "one.jsonl").write_text("{}")
    record_file(home).write_text("{}")
    assert known_heads(home)[0] == ()
    assert len(known_heads(home)[1]) == 3


def test_a_standing_goes_through_json_unchanged(home: Path) -> None:
    ledger_state = read_ledger(home).state()
    assert (
        LedgerState.model_validate_json(ledger_state.model_dump_json()) == ledger_state
    )


def test_a_page_names_a_head_or_is_refused() -> None:
    assert KnownHead.from_tag(f"7:{'a' * 64}", "the page of letters 1").generation == 7
    for text in ("", "7", "x:y", f"0:{'a' * 64}", "7:abc"):
        with pytest.raises(LedgerError, match="the page of letters 1 says"):
            KnownHead.from_tag(text, "the page of letters 1")


def told(
    entries: tuple[Entry, ...], texts: dict[str, str] | None = None
) -> dict[int, HistoryEntry]:
    return {each.generation: each for each in history_entries(entries, texts or {})}


def test_history_tells_every_kind_in_words_with_model_and_version(home: Path) -> None:
    ledger = open_ledger(home)
    why = ledger.remember("it got slow\nand rude")
    ledger_state = ledger.append(rolled_back(3), ledger.state())
    ledger_state = ledger.append(judged("3"), ledger_state)
    ledger_state = ledger.append(begun(11, "3"), ledger_state)
    ledger_state = ledger.append(
        ReleaseAborted(begun=12, reason_sha256=why), ledger_state
    )
    ledger_state = ledger.append(
        Revoked(by="olga", reason_sha256=why, model=MODEL, version="3"), ledger_state
    )
    ledger_state = ledger.append(
        BaseServed(by="olga", reason_sha256=why, model=MODEL), ledger_state
    )
    ledger.append(
        Waived(
            by="olga", reason_sha256=why, rule="human_rating", model=MODEL, until=START
        ),
        ledger_state,
    )
    rotate(ledger, home, "olga", "every year")
    history = told(ledger.entries(), ledger.texts())
    assert [(each.words, each.version) for each in history.values()] == [
        ("ledger opened", None),
        *[
            ("judged passed", "1"),
            ("release begun", "1"),
            ("full traffic", "1"),
            ("release completed", "1"),
        ],
        *[
            ("judged passed", "2"),
            ("release begun", "2"),
            ("full traffic", "2"),
            ("release completed", "2"),
        ],
        *[
            ("rolled back to it", "1"),
            ("judged passed", "3"),
            ("release begun", "3"),
            ("release aborted", "3"),
            ("revoked", "3"),
        ],
        *[
            ("base served", None),
            ("rule human_rating waived until 2026-11-01 12:00", None),
            ("key added", None),
            ("key revoked", None),
        ],
    ]
    assert history[14].line.endswith("revoked letters 3 by olga: it got slow and rude")
    ledger.erase(why)
    assert told(ledger.entries(), ledger.texts())[14].line.endswith(
        "by olga: reason erased"
    )


def test_what_a_reason_holds_is_shown_and_not_obeyed_by_the_terminal(
    home: Path,
) -> None:
    ledger = open_ledger(home)
    why = ledger.remember("red \x1b[31m and \u202e turned")
    ledger.append(frozen().model_copy(update={"reason_sha256": why}), ledger.state())
    assert told(ledger.entries(), ledger.texts())[10].line.endswith(
        "red \\u001b[31m and \\u202e turned"
    )


def test_history_on_the_command_line_is_in_order_and_by_model(home: Path) -> None:
    ledger = open_ledger(home)
    ledger.append(frozen(), ledger.append(judged("1", "other"), ledger.state()))
    everything = assay("history").output.splitlines()
    assert [int(line.split()[0]) for line in everything] == list(range(1, 12))
    ours = [
        json.loads(line)
        for line in assay("history", "--model", "other", "--json").output.splitlines()
    ]
    assert [(each["generation"], each["kind"]) for each in ours] == [
        (1, "opened"),
        (10, "judged"),
        (11, "frozen"),
    ]


def test_history_of_a_broken_ledger_tells_what_is_whole_and_fails(home: Path) -> None:
    tamper(
        home,
        "UPDATE entries SET body = replace(body, 'rita', 'evie') WHERE generation = 3",
    )
    done = assay("history")
    assert done.exit_code == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]
    assert "Entry 3 is broken" in done.stderr


def test_audit_verify_answers_0_or_1_and_names_the_entry_in_one_line(
    home: Path,
) -> None:
    done = assay("audit", "verify")
    assert done.exit_code == 0
    assert done.stdout.startswith("The ledger is whole: entries 1 to 9")
    assert "version pages were not looked at" in done.stdout
    tamper(home, "DELETE FROM entries WHERE generation = 6")
    done = assay("audit", "verify")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0].startswith(
        "The ledger is not whole. Entry 6 is broken: it is missing"
    )
    assert json.loads(assay("audit", "verify", "--json").stdout)["bad_entry"] == 6


def test_audit_says_where_this_machines_key_is_not_the_ledgers(
    home: Path, tmp_path: Path
) -> None:
    create_key(tmp_path / "other")
    key_file(tmp_path / "other").replace(key_file(home))
    assert "this machine's key" in assay("audit", "verify").stdout


def test_an_export_from_the_command_line_is_remembered_by_the_next_audit(
    home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "november.jsonl"
    assert assay("audit", "export", str(path)).exit_code == 0
    assert assay("audit", "verify", "--export", str(path)).exit_code == 0
    tamper(home, "DELETE FROM entries WHERE generation > 5")
    done = assay("audit", "verify")
    assert done.exit_code == 1
    assert "the export november.jsonl remember entry 9" in done.stdout


def test_the_key_is_rotated_and_a_reason_erased_from_the_command_line(
    home: Path,
) -> None:
    assert assay("audit", "rotate-key", "--reason", "every year").exit_code == 0
    happened = [
        json.loads(line) for line in assay("history", "--json").output.splitlines()
    ][-1]
    assert (happened["kind"], happened["by"], happened["reason"]) == (
        "key_revoked",
        login_name(),
        "every year",
    )
    assert assay("audit", "erase", happened["reason_sha256"]).exit_code == 0
    assert assay("history").output.splitlines()[-1].endswith("reason erased")
    assert assay("audit", "erase", "0" * 64).exit_code == 1
    assert assay("audit", "verify").exit_code == 0


def test_a_head_on_a_version_page_finds_a_cut_tail(
    home: Path, empty_mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    shutil.copyfile(empty_mlflow, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = MlflowClient(uri, uri)
    client.create_registered_model(MODEL)
    head = read_ledger(home).state().head
    client.create_model_version(
        MODEL,
        tmp_path.as_uri(),
        tags={"assay.ledger_head": f"{head.generation}:{head.hash}"},
    )
    client.create_model_version(MODEL, tmp_path.as_uri())
    assert "2 heads known from elsewhere agree" in assay("audit", "verify").stdout
    record_file(home).unlink()
    tamper(home, "DELETE FROM entries WHERE generation > 5")
    assert "the page of letters 1 remembers entry 9" in assay("audit", "verify").stdout


def test_an_mlflow_that_does_not_answer_is_given_up_within_seconds(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = assay("audit", "verify")
    assert done.exit_code == 0
    assert "version pages were not looked at" in done.stdout
