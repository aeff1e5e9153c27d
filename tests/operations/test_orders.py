"""What the release manager types: slips are found before anything is written."""

import os
import shutil
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.account import login_name
from core.errors import ParameterError, RegistryError
from core.project import Project
from operations.identity import Identity
from operations.waiving import draft_waiver
from registry.ledger.heads import SealedRecord
from registry.ledger.ledger import open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.pages import RECORD_TAG, REVOKED_TAG
from registry.mlflow.recorded import Page, Submission
from registry.mlflow.store import Store
from registry.release.judging.waivers import WAIVABLE
from tests.support.journey import Checkout, Package, invoke
from tests.support.ledgers import MODEL, append_released, judged

ANN = Identity("ann", "1000 (ann)")
WAIVE = (
    "waive",
    "--model",
    "m",
    "--rule",
    "approvals",
    "--until",
    "24h",
    "--reason",
    "a test",
)


@pytest.fixture
def elsewhere(cloned: Path, tmp_path: Path) -> Checkout:
    """The shared clone, with a home of this test's own."""
    return Checkout(cloned, {"ASSAY_HOME": str(tmp_path / "home")})


@pytest.mark.parametrize(
    ("until", "span"), [("24h", timedelta(hours=24)), ("7d", timedelta(days=7))]
)
def test_a_span_ends_that_long_from_now(until: str, span: timedelta) -> None:
    before = datetime.now(UTC)
    assert (
        before + span
        <= draft_waiver("m", "approvals", until, ANN).until
        <= datetime.now(UTC) + span
    )


def test_a_time_without_a_zone_is_local_time() -> None:
    soon = (datetime.now() + timedelta(hours=1)).replace(microsecond=0)  # noqa: DTZ005 - as a person types it
    assert (
        draft_waiver("m", "approvals", soon.isoformat(), ANN).until == soon.astimezone()
    )


@pytest.mark.parametrize(
    "until",
    [
        "yesterday",
        "0h",
        "24",
        "-3h",
        "2026-13-01T00:00",
        "99999d",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_what_is_no_time_is_refused(until: str) -> None:
    with pytest.raises(ParameterError, match="neither a time"):
        draft_waiver("m", "approvals", until, ANN)


def test_a_waiver_ends_in_utc() -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    until = draft_waiver(
        "m",
        "approvals",
        soon.astimezone(timezone(timedelta(hours=-12))).isoformat(),
        ANN,
    ).until
    assert (until, until.utcoffset()) == (soon, timedelta(0))


@pytest.mark.parametrize(
    "until", ["91d", "9999d", "2199-01-01T00:00+00:00", "9999-12-31T23:59:59+00:00"]
)
def test_a_waiver_for_longer_than_three_months_is_refused(until: str) -> None:
    assert draft_waiver("m", "approvals", "90d", ANN)
    with pytest.raises(ParameterError, match="more than 90 days ahead"):
        draft_waiver("m", "approvals", until, ANN)


def test_with_mlflows_database_lost_a_promotion_says_so_and_makes_no_empty_one(
    elsewhere: Checkout, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    append_released(open_ledger(home))
    done = invoke(elsewhere, "promote", "2", "--model", MODEL, "--reason", "better")
    assert done.code == 1
    assert "so it is lost. Restore it from a backup" in done.err
    assert not (home / "mlflow.db").exists()


def test_with_mlflows_database_lost_its_pages_are_not_shown_over_an_empty_one(
    elsewhere: Checkout, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    append_released(open_ledger(home))
    done = invoke(elsewhere, "ui", "--port", "0")
    assert done.code == 1
    assert "so it is lost. Restore it from a backup" in done.err
    assert not (home / "mlflow.db").exists()


def test_a_home_where_nothing_was_judged_may_begin_its_mlflow_database(
    elsewhere: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(elsewhere.root, tmp_path / "home")
    open_store(project)
    ledger = open_ledger(project.home)
    open_store(project)
    append_released(ledger)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    open_store(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("ASSAY_LEDGER_URL", f"sqlite:///{project.home / 'ledger.db'}")
    open_store(project)  # other homes may write into an outside ledger
    monkeypatch.delenv("ASSAY_LEDGER_URL")
    with pytest.raises(RegistryError, match="so it is lost"):
        open_store(project)


@pytest.mark.parametrize("model", ["o'x y", "", "../x", "-x", "x\n", "x" * 101])
def test_a_name_that_no_registered_model_can_have_is_refused(model: str) -> None:
    with pytest.raises(ParameterError, match="is no name of a registered model"):
        draft_waiver(model, "approvals", "24h", ANN)


def test_a_version_is_revoked_before_anybody_judged_it_and_one_that_nobody_knows_is_a_slip(
    elsewhere: Checkout, empty_mlflow: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    open_ledger(home)
    shutil.copyfile(empty_mlflow, home / "mlflow.db")
    client = MlflowClient(
        f"sqlite:///{home / 'mlflow.db'}", f"sqlite:///{home / 'mlflow.db'}"
    )
    client.create_registered_model("letters")
    client.create_model_version("letters", "nowhere")
    done = invoke(
        elsewhere, "revoke", "1", "--model", "letters", "--reason", "its rows had to go"
    )
    assert "It is in the ledger (entry 2) and will be obeyed" in done.err
    assert "not one that Assay registered" in done.out
    assert (
        "There is no version 2 of letters"
        in invoke(
            elsewhere, "revoke", "2", "--model", "letters", "--reason", "a slip"
        ).err
    )
    assert open_ledger(home).state().model("letters").revoked == {"1"}
    assert (
        "(entry 2 of the ledger)"
        in client.get_model_version("letters", "1").tags[REVOKED_TAG]
    )


def test_the_bytes_of_a_version_that_nobody_judged_are_revoked_under_every_name(
    elsewhere: Checkout, empty_mlflow: Path, package: Package, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    open_ledger(home)
    shutil.copyfile(empty_mlflow, home / "mlflow.db")
    store = Store(f"sqlite:///{home / 'mlflow.db'}", locks=home / "leases")
    run = store.runs.begin("work", "letters on tiny", {})
    page = Page(description="", tags={})
    store.register(
        package.finalist,
        Submission(
            run=run,
            package=package.folder,
            model="letters",
            logical_run="work",
            page=page,
        ),
    )
    invoke(
        elsewhere, "revoke", "1", "--model", "letters", "--reason", "its rows had to go"
    )
    assert set(open_ledger(home).state().revoked_adapters) == {
        package.finalist.adapter.sha256
    }
    (said,) = store.pages_with(RECORD_TAG).values()
    assert SealedRecord.model_validate_json(said).record.revoked_adapters == (
        package.finalist.adapter.sha256,
    )


def test_with_mlflows_database_lost_a_revocation_is_entered_and_no_empty_database_is_made(
    elsewhere: Checkout, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    append_released(open_ledger(home))
    invoke(elsewhere, "revoke", "7", "--model", MODEL, "--reason", "its rows had to go")
    assert open_ledger(home).state().model(MODEL).revoked == {"7"}
    assert not (home / "mlflow.db").exists()


def test_a_brake_without_a_name_means_the_only_model_that_the_ledger_knows(
    elsewhere: Checkout, tmp_path: Path
) -> None:
    ledger = open_ledger(tmp_path / "home")
    done = invoke(elsewhere, "serve-base", "--reason", "worse")
    assert (done.code, "knows no model yet" in done.err) == (1, True)
    append_released(ledger)
    assert (
        "It is in the ledger"
        in invoke(elsewhere, "serve-base", "--reason", "worse").err
    )
    assert ledger.state().model(MODEL).serves_base


@pytest.mark.parametrize(
    "brake",
    [("rollback",), ("serve-base",), ("revoke", "1")],
    ids=lambda brake: brake[0],
)
def test_with_two_models_in_the_ledger_a_brake_asks_which_is_meant(
    elsewhere: Checkout, tmp_path: Path, brake: tuple[str, ...]
) -> None:
    ledger = open_ledger(tmp_path / "home")
    ledger_state = append_released(ledger)
    ledger.append(judged("1").model_copy(update={"model": "another"}), ledger_state)
    done = invoke(elsewhere, *brake, "--reason", "worse")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"The ledger knows 2 models: another, {MODEL}." in done.err
    assert ledger.state().model(MODEL).answering == ledger_state.model(MODEL).answering


def test_a_time_that_has_passed_is_refused() -> None:
    with pytest.raises(ParameterError, match="has passed"):
        draft_waiver("m", "approvals", "2020-01-01T00:00+00:00", ANN)


@pytest.mark.parametrize(
    "rule",
    [
        "registration",
        "admit",
        "screen",
        "drawn_answers",
        "revoked",
        "frozen",
        "",
        "human rating",
    ],
)
def test_evidence_cannot_be_waived(rule: str) -> None:
    assert rule not in WAIVABLE
    with pytest.raises(ParameterError, match="cannot be waived"):
        draft_waiver("m", rule, "24h", ANN)


def test_an_order_without_a_reason_is_refused(checkout: Checkout) -> None:
    assert invoke(checkout, "freeze").code == 2
    done = invoke(checkout, "freeze", "--reason", "  ")
    assert (done.code, done.out) == (1, "")
    assert "--reason is empty" in done.err
    assert not (checkout.home / "ledger.db").exists()


def test_a_user_without_a_name_acts_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASSAY_USER", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert login_name() == "uid-54321"


@pytest.mark.parametrize("command", [WAIVE, ("up", "--no-open"), ("run", "--dry-run")])
def test_a_home_that_cannot_be_one_is_named_in_one_line(
    cloned: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    done = invoke(
        Checkout(cloned, {"ASSAY_HOME": str(tmp_path / "file/home")}), *command
    )
    assert done.code == 1
    (line,) = done.err.strip().splitlines()
    assert line.startswith("assay: ")
    assert f"{tmp_path / 'file/home'}" in line
    assert "Not a directory" in line


def test_a_folder_that_may_not_be_written_to_is_named_with_the_way_out(
    cloned: Path,
) -> None:
    """Not even root may make a folder in `/sys`."""
    done = invoke(Checkout(cloned, {"ASSAY_HOME": "/sys/assay"}), "up", "--no-open")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("assay: /sys/assay")
    assert (
        "Get the right to write there, or set ASSAY_HOME to a folder of your own"
        in done.err
    )


def test_several_rules_are_waived_at_once_and_none_where_one_is_wrong(
    checkout: Checkout,
) -> None:
    options = ("--until", "1h", "--model", "m", "--reason", "a test")
    rules = ("--rule", "human_rating", "--rule", "freshness")
    wrong = invoke(checkout, "waive", *rules, "--rule", "evidence", *options)
    assert (wrong.code, wrong.out) == (1, "")
    assert "'evidence' cannot be waived" in wrong.err
    assert not (checkout.home / "ledger.db").exists()
    done = invoke(checkout, "waive", *rules, *options)
    assert done.code == 0, done.err
    waivers = open_ledger(checkout.home).state().waivers
    assert {waiver.rule for waiver in waivers} == {"human_rating", "freshness"}
