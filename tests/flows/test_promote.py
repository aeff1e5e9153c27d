"""From a judged version to a champion that answers: `assay promote`, its kill, the controller, and the brakes without MLflow."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from core.project import Project
from core.ready import parse_ready
from operations.reconcile import Reconciler
from registry.ledger.ledger import open_ledger
from registry.ledger.state import ModelState
from registry.release.judge import WAIVABLE
from serving.client import endpoint_client
from tests.support.journey import Checkout, Journey, copy_record, invoke, make_checkout
from tests.support.waiting import SECONDS_AT_MOST

MODEL = "letters-tiny"
WAIVED = ("human_rating", "approvals", "package_signature")
NOWHERE = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
}


@contextmanager
def endpoint(checkout: Checkout) -> Iterator[str]:
    """The endpoint of the checkout's home as a process: its address for clients."""
    command = [
        sys.executable,
        "-m",
        "serving.endpoint",
        "--home",
        str(checkout.home),
        "--port",
        "0",
    ]
    environment = {
        **os.environ,
        **checkout.environment,
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    with subprocess.Popen(
        command,
        cwd=checkout.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert parse_ready(line), line
            yield endpoint_client(checkout.home).admin_address().serves_at
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def site(
    judged: Journey,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Checkout]:
    """A checkout whose MLflow knows the judged version, with an endpoint that has nothing to serve yet."""
    checkout = make_checkout(
        tmp_path_factory.mktemp("site") / "assay", cloned, empty_mlflow
    )
    copy_record(judged, checkout)
    with endpoint(checkout):
        yield checkout


def here(site: Checkout) -> ModelState:
    return open_ledger(site.home).state().model(MODEL)


def kinds(site: Checkout) -> list[str]:
    return [entry.body.kind for entry in open_ledger(site.home).entries()]


def alias(site: Checkout, name: str) -> str | None:
    found = (
        MlflowClient(site.uri, site.uri).get_registered_model(MODEL).aliases.get(name)
    )
    return None if found is None else str(found)


def promote(site: Checkout) -> Any:
    return invoke(
        site, "promote", "1", "--model", MODEL, "--reason", "it is better", "--json"
    )


def ask(site: Checkout) -> tuple[str, str]:
    """What answers under the model's name: the model that says so, and the fingerprint of the header."""
    body = json.dumps(
        {
            "model": MODEL,
            "max_tokens": 3,
            "messages": [{"role": "user", "content": "12 a"}],
        }
    ).encode()
    url = endpoint_client(site.home).admin_address().serves_at
    request = urllib.request.Request(
        f"{url}/chat/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=SECONDS_AT_MOST) as answer:
        return json.load(answer)["model"], answer.headers["x-assay-fingerprint"]


def test_1_without_ratings_approvals_and_signature_nothing_is_released(
    site: Checkout,
) -> None:
    done = promote(site)
    assert done.code == 4
    for rule in WAIVED:
        assert f"assay waive --rule {rule}" in done.out
    assert kinds(site) == ["opened", "registered", "judged"]
    assert here(site).current is None
    version = MlflowClient(site.uri, site.uri).get_model_version(MODEL, "1")
    assert version.tags["assay.judge"] == "undecided"


def test_2_a_promotion_that_is_killed_is_carried_to_its_end_by_the_controller(
    site: Checkout,
) -> None:
    for rule in WAIVED:
        assert (
            invoke(
                site,
                "waive",
                "--rule",
                rule,
                "--until",
                "1h",
                "--model",
                MODEL,
                "--reason",
                "a test",
            ).code
            == 0
        )
    process = site.start("promote", "1", "--model", MODEL, "--reason", "it is better")
    deadline = time.monotonic() + SECONDS_AT_MOST
    while here(site).pending is None:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_AT_MOST)
    assert here(site).current is None
    duties = Reconciler(Project(site.root, site.home))
    assert duties.finish_releases() == (
        f"A release of {MODEL} that was left on its way was carried to its end: version 1 serves.",
    )
    assert kinds(site)[-3:] == [
        "release_begun",
        "release_switched",
        "release_completed",
    ]
    assert alias(site, "champion") is None
    assert duties.put_champions_back() == (f"champion of {MODEL}: none → 1",)
    assert alias(site, "champion") == "1"
    assert duties.finish_releases() == duties.put_champions_back() == ()


def test_3_what_answers_is_what_was_scored_registered_and_entered(
    site: Checkout,
) -> None:
    current = here(site).current
    assert current is not None
    tags = MlflowClient(site.uri, site.uri).get_model_version(MODEL, "1").tags
    assert ask(site) == (MODEL, current.release.fingerprint)
    assert tags["assay.serving_spec"] == current.release.fingerprint
    assert tags["assay.judge"] == "passed"
    assert "human_rating is waived until" in tags["assay.judge_reasons"]


def test_4_what_serves_already_is_not_promoted_again(site: Checkout) -> None:
    before = kinds(site)
    done = promote(site)
    assert (done.code, kinds(site)) == (1, before)
    assert f"Version 1 of {MODEL} serves already" in done.err


@pytest.mark.parametrize("hand", ["deleted", "moved"])
def test_5_a_champion_that_was_changed_by_hand_is_put_back(
    site: Checkout, hand: str
) -> None:
    client = MlflowClient(site.uri, site.uri)
    if hand == "deleted":
        client.delete_registered_model_alias(MODEL, "champion")
    else:
        other = client.create_model_version(MODEL, str(site.home))
        client.set_registered_model_alias(MODEL, "champion", other.version)
    assert Reconciler(Project(site.root, site.home)).put_champions_back()
    assert alias(site, "champion") == "1"


def test_6_brakes_work_with_mlflow_and_prefect_down(
    site: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, nowhere in NOWHERE.items():
        monkeypatch.setenv(name, nowhere)
    tuned = ask(site)
    assert (
        invoke(site, "serve-base", "--model", MODEL, "--reason", "an incident").code
        == 0
    )
    assert ask(site)[1] != tuned[1]
    assert (
        invoke(site, "rollback", "--model", MODEL, "--reason", "it was not that").code
        == 0
    )
    assert ask(site) == tuned
    assert invoke(site, "freeze", "--reason", "at night").code == 0
    assert invoke(site, "freeze", "--reason", "at night").code == 1
    assert invoke(site, "unfreeze", "--reason", "in the morning").code == 0


def test_7_a_base_that_serves_is_no_champion(site: Checkout) -> None:
    duties = Reconciler(Project(site.root, site.home))
    assert (
        invoke(site, "serve-base", "--model", MODEL, "--reason", "an incident").code
        == 0
    )
    duties.put_champions_back()
    assert alias(site, "champion") is None
    assert (
        invoke(site, "rollback", "--model", MODEL, "--reason", "it was not that").code
        == 0
    )
    duties.put_champions_back()
    assert alias(site, "champion") == "1"


def test_8_a_waiver_that_ends_while_its_model_serves_is_an_alarm_and_nothing_more(
    site: Checkout,
) -> None:
    duties = Reconciler(Project(site.root, site.home))
    told = duties.raise_alarms()
    assert len(told) == len(WAIVED)
    assert all("It continues to serve" in sentence for sentence in told)
    assert duties.raise_alarms() == ()
    assert here(site).current is not None


def test_9_a_revoked_version_is_neither_served_nor_promoted(site: Checkout) -> None:
    assert (
        invoke(site, "revoke", "1", "--model", MODEL, "--reason", "it leaks").code == 0
    )
    assert here(site).serves_base
    assert ask(site)[0] != MODEL
    done = promote(site)
    assert done.code == 3
    assert "revoked" in done.out


def test_9_and_its_adapter_is_not_promoted_under_another_name(site: Checkout) -> None:
    MlflowClient(site.uri, site.uri).rename_registered_model(MODEL, "letters-again")
    done = invoke(
        site, "promote", "1", "--model", "letters-again", "--reason", "a new start"
    )
    assert done.code == 3, done.out + done.err
    assert "its adapter is under another name, for good" in done.out


def test_9_and_what_its_page_remembers_counts_where_the_revocation_was_cut_off_the_ledger(
    site: Checkout,
) -> None:
    entries = open_ledger(site.home).entries()
    first_release = next(
        entry.generation for entry in entries if entry.body.kind == "release_begun"
    )
    with sqlite3.connect(site.home / "ledger.db") as database:
        for trigger in ("update", "delete"):
            database.execute(f"DROP TRIGGER IF EXISTS entries_no_{trigger}")
        database.execute("DELETE FROM entries WHERE generation >= ?", (first_release,))
    for path in (
        "endpoint/standing.json",
        "keys/head.json",
        "keys/endpoint.pem",
        "keys/elsewhere.json",
    ):
        (site.home / path).unlink(missing_ok=True)
    done = invoke(
        site,
        "promote",
        "1",
        "--model",
        "letters-again",
        "--reason",
        "nothing was ever revoked",
    )
    assert done.code == 1, done.out
    assert "remembers entry" in done.err
    assert here(site).current is None


def test_every_waivable_rule_that_the_demo_needs_can_be_waived() -> None:
    assert set(WAIVED) <= WAIVABLE
