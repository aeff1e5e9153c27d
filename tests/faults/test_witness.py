"""All of a home is set back to before a revocation, and only who is outside of it remembers.

Version pages, and the witness.
"""

import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.errors import BrokenLedger, LedgerError, RegistryError
from core.project import Project
from operations.ledger_audit import is_mlflow_there
from operations.reconcile import Reconciler
from operations.remembered import HeadComparison, remember_elsewhere, tell_witness
from registry.ledger.audit import PAGE_TAG
from registry.ledger.heads import HeadRecord, SealedRecord, elsewhere_file, read_record
from registry.ledger.keys import create_key
from registry.ledger.ledger import open_ledger, read_ledger
from registry.ledger.witness import witness
from registry.mlflow.pages import RECORD_TAG, REVOKED_TAG
from registry.mlflow.store import Store
from tests.support.commands import assay
from tests.support.environment import use_home
from tests.support.following import REVOCATION, start_follower
from tests.support.ledgers import MODEL, append_released, frozen

SECRET = "s3cr3t-of-the-witness"  # noqa: S105 - of this test


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Versions 1 and 2 were released, and the endpoint saw it; `before` holds a copy of that."""
    home = tmp_path / "home"
    use_home(monkeypatch, home, tmp_path / "mlflow.db")
    ledger = open_ledger(home)
    append_released(ledger, "1")
    append_released(ledger, "2")
    assert start_follower(home).serves == "2"
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(home, tmp_path / "before")
    ledger.append(REVOCATION, ledger.state())
    return home


def set_back(home: Path) -> None:
    """Whoever owns the account puts every file back as it was."""
    shutil.rmtree(home)
    shutil.copytree(home.parent / "before", home)


class _Kept(BaseHTTPRequestHandler):
    """A witness in a few lines: it keeps every record, and gives all of them."""

    records: list[bytes]

    def do_POST(self) -> None:
        self.records.append(self.rfile.read(int(self.headers["content-length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"\n".join(self.records))

    def _answer(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *words: object) -> None:  # noqa: A002 - the library's own name
        pass


@contextmanager
def http_witness() -> Iterator[str]:
    kept = type("Kept", (_Kept,), {"records": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), kept) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://olga:{SECRET}@127.0.0.1:{server.server_port}/heads"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["file", "http"])
def address(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "file":
        monkeypatch.setenv("ASSAY_WITNESS", str(tmp_path / "witness.jsonl"))
        yield str(tmp_path / "witness.jsonl")
        return
    with http_witness() as found:
        monkeypatch.setenv("ASSAY_WITNESS", found)
        yield found


def test_what_the_witness_knows_as_revoked_is_not_served_where_all_of_the_home_was_set_back(
    home: Path, address: str
) -> None:
    assert tell_witness(home, read_ledger(home).state()) == ()
    set_back(home)
    seen = start_follower(home)
    assert seen.serves == "1"
    assert any(
        "Entry 10 is missing, though the witness" in alarm for alarm in seen.alarms
    )
    assert any(
        "Version 2 of letters is known as revoked" in alarm for alarm in seen.alarms
    )
    audited = assay("audit", "verify")
    assert audited.exit_code == 1
    assert "the witness" in audited.output
    accepted = assay("audit", "accept-head", "--reason", "the disk was restored")
    assert "Revoked again: version 2 of letters" in accepted.output
    assert start_follower(home).alarms == ()
    assert SECRET not in audited.output + accepted.output + "".join(seen.alarms)


def test_what_nobody_of_the_ledger_sealed_does_not_count_at_the_witness(
    home: Path, address: str, tmp_path: Path
) -> None:
    assert tell_witness(home, read_ledger(home).state()) == ()
    there = witness()
    assert there is not None
    record = HeadRecord.of(read_ledger(home).state())
    head = record.head.model_copy(update={"generation": 99})
    forged = SealedRecord.sign(
        record.model_copy(update={"head": head}), create_key(tmp_path / "stranger")
    )
    there.tell(forged)
    assert start_follower(home).alarms == ()
    assert assay("audit", "verify").exit_code == 0


@pytest.mark.parametrize(
    "login",
    [f"olga:a/{SECRET}", f"olga:1/{SECRET}", f"olga:a#{SECRET}", f"olga:?{SECRET}"],
)
def test_an_address_of_the_witness_that_cannot_be_understood_stops_no_brake_and_tells_no_secret(
    home: Path, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_WITNESS", f"http://{login}@127.0.0.1:9/heads")
    with pytest.raises(
        LedgerError, match="ASSAY_WITNESS cannot be understood"
    ) as refused:
        witness()
    told = tell_witness(home, read_ledger(home).state())
    assert len(told) == 1
    seen = start_follower(home)
    assert any("ASSAY_WITNESS" in alarm for alarm in seen.alarms)
    revoked = assay("revoke", "1", "--model", MODEL, "--reason", "bad answers")
    assert "1" in read_ledger(home).state().model(MODEL).revoked
    assert "Traceback" not in revoked.output
    doctor = assay("doctor")
    assert "ASSAY_WITNESS" in doctor.output
    everything = f"{refused.value}{told}{seen.alarms}{revoked.output}{doctor.output}"
    assert SECRET not in everything


def test_a_witness_that_is_away_is_a_warning_and_stops_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("ASSAY_WITNESS", f"http://olga:{SECRET}@127.0.0.1:{port}/")
    (wrong,) = tell_witness(home, read_ledger(home).state())
    seen = start_follower(home)
    assert seen.serves == "1"
    audited = assay("audit", "verify")
    assert audited.exit_code == 0
    for text in (wrong, *seen.alarms, audited.output):
        assert f"witness http://127.0.0.1:{port}/ does not answer" in text
        assert SECRET not in text


@pytest.fixture
def client(home: Path, empty_mlflow: Path) -> MlflowClient:
    """MLflow lies outside of the home; both versions have a page."""
    uri = f"sqlite:///{shutil.copyfile(empty_mlflow, home.parent / 'mlflow.db')}"
    client = MlflowClient(uri, uri)
    client.create_registered_model(MODEL)
    for _ in ("1", "2"):
        client.create_model_version(MODEL, "nowhere")
    return client


@pytest.mark.parametrize("address", ["postgresql://u:pa/ss@h/db", "http://h:99999"])
def test_an_address_of_mlflow_that_cannot_be_read_is_taken_for_one_that_is_away(
    home: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert not is_mlflow_there(Project(home.parent, home))


def test_an_mlflow_that_takes_connections_and_never_answers_holds_up_no_revocation(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = read_ledger(home)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(
            "MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}"
        )
        monkeypatch.setattr("operations.remembered.SECONDS_FOR_A_PAGE", 0.5)
        began = time.monotonic()
        remember_elsewhere(
            Project(home.parent, home), ledger, ledger.state(), MODEL, "2"
        )
        assert time.monotonic() - began < 25, "the first call alone has 30 s"


def test_the_page_of_a_revoked_version_says_so_and_keeps_it_from_being_served_again(
    home: Path, client: MlflowClient
) -> None:
    assert Reconciler(Project(home.parent, home)).write_heads() == ()
    assert (
        client.get_model_version(MODEL, "2")
        .tags[REVOKED_TAG]
        .endswith("(entry 10 of the ledger). It never serves again.")
    )
    assert client.get_model_version(MODEL, "1").tags[PAGE_TAG].startswith("10:")
    assert REVOKED_TAG not in client.get_model_version(MODEL, "1").tags
    set_back(home)
    duties = Reconciler(Project(home.parent, home))
    said = duties.compare_heads()
    assert any(
        "Entry 10 is missing, though the page of letters" in sentence
        for sentence in said
    )
    assert elsewhere_file(home).is_file()
    for duty in (duties.write_heads, duties.put_champions_back, duties.tell_witness):
        with pytest.raises(BrokenLedger, match="Entry 10 is missing"):
            duty()
    assert client.get_model_version(MODEL, "1").tags[PAGE_TAG].startswith("10:"), (
        "it is not overwritten"
    )
    ledger = open_ledger(home)
    with pytest.raises(BrokenLedger, match="Entry 10 is missing"):
        ledger.append(frozen(), ledger.state())
    client.delete_model_version(MODEL, "2")  # what was read once is kept
    seen = start_follower(home)
    assert seen.serves == "1"
    assert any("not obeyed" in alarm for alarm in seen.alarms)


def test_a_tag_that_anybody_may_write_is_an_alarm_and_keeps_nothing_from_being_obeyed(
    home: Path, client: MlflowClient
) -> None:
    sealed = read_record(home)
    assert sealed is not None
    forged = sealed.record.model_copy(update={"revoked": {MODEL: ("1", "2")}})
    text = sealed.model_copy(update={"record": forged}).model_dump_json()
    client.set_model_version_tag(MODEL, "2", RECORD_TAG, text)
    client.set_model_version_tag(MODEL, "2", PAGE_TAG, f"99:{'f' * 64}")
    duties = Reconciler(Project(home.parent, home))
    said = " ".join(duties.compare_heads())
    assert (
        "the page of letters 2 holds a tag assay.ledger_record that no key of this ledger sealed"
        in said
    )
    assert "the page of letters 2 remembers entry 99" in said
    assert start_follower(home) == start_follower(home)
    assert (start_follower(home).serves, start_follower(home).alarms) == ("1", ())
    ledger = open_ledger(home)
    ledger.append(frozen(), ledger.state())
    assert assay("audit", "verify").exit_code == 1


def test_a_missing_head_record_is_rewritten_by_the_controller_where_the_memory_confirms_the_ledger(
    home: Path,
) -> None:
    start_follower(home)
    (home / "keys" / "head.json").unlink()
    duties = Reconciler(Project(home.parent, home))
    (sentence,) = duties.keep_head_record()
    assert "was missing" in sentence
    assert duties.keep_head_record() == ()
    assert start_follower(home).alarms == ()


def test_a_controller_that_outlives_a_home_that_was_set_back_tells_people_and_the_endpoint(
    home: Path,
) -> None:
    duties = Reconciler(Project(home.parent, home))
    assert duties.keep_head_record() == ()
    set_back(home)
    # An endpoint that starts there finds everything as it was, and nothing to warn of.
    seen = start_follower(home)
    assert (seen.serves, seen.alarms) == ("2", ())
    (sentence,) = duties.keep_head_record()
    assert "The ledger is not obeyed: Entry 10 is missing" in sentence
    assert duties.keep_head_record() == ()
    seen = start_follower(home)
    assert seen.serves == "1"
    assert any("the controller, which read entry 10" in alarm for alarm in seen.alarms)
    ledger = open_ledger(home)
    with pytest.raises(BrokenLedger, match="Entry 10 is missing"):
        ledger.append(frozen(), ledger.state())
    accepted = assay("audit", "accept-head", "--reason", "the disk was restored")
    assert "Revoked again: version 2 of letters" in accepted.output
    assert duties.keep_head_record() == ()
    assert start_follower(home).alarms == ()


def test_the_controller_tells_the_witness_and_notices_where_it_forgets_also_without_mlflow(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "witness.jsonl"
    monkeypatch.setenv("ASSAY_WITNESS", str(lines))
    comparison = HeadComparison(home)
    ledger = read_ledger(home)
    assert comparison.tell(ledger.state()) == comparison.tell(ledger.state()) == ()
    assert lines.read_text().count("\n") == 1
    assert comparison.compare(no_store, ledger, ledger.state()) == ()
    lines.write_text("")
    (forgot,) = HeadComparison(home).compare(no_store, ledger, ledger.state())
    assert "remembers entry 0 of the ledger, and it knew entry 10" in forgot


def no_store() -> Store:
    raise RegistryError("MLflow is away.")
