"""From a judged version to a champion that answers.

`assay promote`, its kill, and the brakes without MLflow.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from core.project import Project
from operations.reconcile import Reconciler
from registry.ledger.ledger import open_ledger
from registry.release.judging.waivers import WAIVABLE
from tests.support.endpoint_system import Home, Running, endpoint
from tests.support.journey import Checkout, CommandResult, copy_checkout, invoke
from tests.support.ledgers import tamper
from tests.support.promoted import (
    MODEL,
    WAIVED,
    entry_kinds,
    model_state,
    waive,
    waived_site,
)
from tests.support.waiting import SECONDS_AT_MOST, wait_until

NOWHERE = {
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
    "PREFECT_API_URL": "http://127.0.0.1:9/api",
}
RELEASE = ["release_begun", "release_switched", "release_completed"]


@pytest.fixture(scope="module")
def released(recorded: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout in which version 1 was promoted, at rest: tests copy it."""
    site = waived_site(recorded, tmp_path_factory.mktemp("released") / "assay")
    with endpoint(Home(site.home)):
        promotion = promote(site)
        assert promotion.code == 0, promotion.out + promotion.err
    return site


@pytest.fixture
def site(released: Checkout, tmp_path: Path) -> Checkout:
    return copy_checkout(released, tmp_path / "assay")


@pytest.fixture
def running(site: Checkout) -> Iterator[Running]:
    """The endpoint of the site, which answers with version 1."""
    with endpoint(Home(site.home)) as running:
        yield running


def client_of(site: Checkout) -> MlflowClient:
    return MlflowClient(site.uri, site.uri)


def champion(site: Checkout) -> str | None:
    aliases = client_of(site).get_registered_model(MODEL).aliases
    version = aliases.get("champion")
    return None if version is None else str(version)


def promote(site: Checkout, model: str = MODEL) -> CommandResult:
    return invoke(site, "promote", "1", "--model", model, "--reason", "it is better")


def brake(site: Checkout, *order: str) -> None:
    answer = invoke(site, *order, "--model", MODEL, "--reason", "an incident")
    assert answer.code == 0, answer.err


def answering(running: Running) -> tuple[str, str]:
    """The model that an answer names, and the fingerprint of its header."""
    response = running.ask(MODEL)
    return response.json()["model"], response.headers["x-assay-fingerprint"]


def kill_once_begun(site: Checkout) -> None:
    """Start a promotion and kill it as soon as the ledger says that its release has begun."""
    order = ("promote", "1", "--model", MODEL, "--reason", "it is better")
    process = site.start(*order)
    wait_until(
        lambda: model_state(site).pending is not None or process.poll() is not None
    )
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=SECONDS_AT_MOST)


def test_a_promotion_waits_for_what_is_missing_and_one_that_is_killed_is_carried_to_its_end(
    recorded: Checkout, tmp_path: Path
) -> None:
    site = copy_checkout(recorded, tmp_path / "assay")
    duties = Reconciler(Project(site.root, site.home))
    with endpoint(Home(site.home)) as running:
        nothing_is_released_without_ratings(site)
        for rule in WAIVED:
            waive(site, rule)
        kill_once_begun(site)
        assert model_state(site).current is None
        assert duties.finish_releases() == (
            (
                f"A release of {MODEL} that was left on its way was carried to its end: version 1 "
                "serves."
            ),
        )
        assert entry_kinds(site)[-3:] == RELEASE
        assert champion(site) is None
        assert duties.put_champions_back() == (f"champion of {MODEL}: none → 1",)
        assert champion(site) == "1"
        assert duties.finish_releases() == duties.put_champions_back() == ()
        what_was_scored_answers(site, running)
        what_serves_is_not_promoted_again(site)


def nothing_is_released_without_ratings(site: Checkout) -> None:
    undecided = promote(site)
    assert undecided.code == 4
    for rule in WAIVED:
        assert f"assay waive --rule {rule}" in undecided.out
    assert entry_kinds(site) == ["opened", "key_added", "registered", "judged"]
    assert model_state(site).current is None
    version = client_of(site).get_model_version(MODEL, "1")
    assert version.tags["assay.judge"] == "undecided"


def what_was_scored_answers(site: Checkout, running: Running) -> None:
    """What answers is what was scored, registered and entered in the ledger."""
    current = model_state(site).current
    assert current is not None
    tags = client_of(site).get_model_version(MODEL, "1").tags
    assert answering(running) == (MODEL, current.release.fingerprint)
    assert tags["assay.serving_spec"] == current.release.fingerprint
    assert tags["assay.judge"] == "passed"
    assert "human_rating is waived until" in tags["assay.judge_reasons"]


def what_serves_is_not_promoted_again(site: Checkout) -> None:
    kinds = entry_kinds(site)
    refusal = promote(site)
    assert (refusal.code, entry_kinds(site)) == (1, kinds)
    assert f"Version 1 of {MODEL} serves already" in refusal.err


@pytest.mark.parametrize("hand", ["deleted", "moved"])
def test_a_champion_that_was_changed_by_hand_is_put_back(
    site: Checkout, hand: str
) -> None:
    client = client_of(site)
    if hand == "deleted":
        client.delete_registered_model_alias(MODEL, "champion")
    else:
        other = client.create_model_version(MODEL, str(site.home))
        client.set_registered_model_alias(MODEL, "champion", other.version)
    assert Reconciler(Project(site.root, site.home)).put_champions_back()
    assert champion(site) == "1"


def test_brakes_work_with_mlflow_and_prefect_down_and_a_base_that_serves_is_no_champion(
    site: Checkout, running: Running
) -> None:
    duties = Reconciler(Project(site.root, site.home))
    tuned = answering(running)
    with pytest.MonkeyPatch.context() as environment:
        for name, nowhere in NOWHERE.items():
            environment.setenv(name, nowhere)
        brake(site, "serve-base")
        assert answering(running)[1] != tuned[1]
        brake(site, "rollback")
        assert answering(running) == tuned
        assert invoke(site, "freeze", "--reason", "at night").code == 0
        assert invoke(site, "freeze", "--reason", "at night").code == 1
        assert invoke(site, "unfreeze", "--reason", "in the morning").code == 0
        brake(site, "serve-base")
    duties.put_champions_back()
    assert champion(site) is None
    brake(site, "rollback")
    duties.put_champions_back()
    assert champion(site) == "1"


def test_a_waiver_that_ends_while_its_model_serves_is_an_alarm_and_nothing_more(
    site: Checkout,
) -> None:
    duties = Reconciler(Project(site.root, site.home))
    alarms = duties.raise_alarms()
    assert len(alarms) == len(WAIVED)
    assert all("It continues to serve" in alarm for alarm in alarms)
    assert duties.raise_alarms() == ()
    assert model_state(site).current is not None


def test_a_revoked_version_is_not_promoted_under_another_name_or_on_a_ledger_that_was_cut(
    site: Checkout, running: Running
) -> None:
    brake(site, "revoke", "1")
    assert model_state(site).serves_base
    assert answering(running)[0] != MODEL
    rejection = promote(site)
    assert rejection.code == 3
    assert "revoked" in rejection.out

    client_of(site).rename_registered_model(MODEL, "letters-again")
    rejection = promote(site, "letters-again")
    assert rejection.code == 3, rejection.out + rejection.err
    assert "its adapter is under another name, for good" in rejection.out

    cut_first_release(site)
    refusal = promote(site, "letters-again")
    assert refusal.code == 1, refusal.out
    assert "remembers entry" in refusal.err
    assert model_state(site).current is None


def cut_first_release(site: Checkout) -> None:
    """Cut the release and all that followed off the ledger.

    Whatever remembers them is deleted too, except the version's page.
    """
    entries = open_ledger(site.home).entries()
    generation = next(
        entry.generation for entry in entries if entry.body.kind == "release_begun"
    )
    cut = f"DELETE FROM entries WHERE generation >= {generation}"  # noqa: S608 - a number of this test
    tamper(site.home, cut)
    for path in (
        "endpoint/standing.json",
        "keys/head.json",
        "keys/endpoint.pem",
        "keys/elsewhere.json",
    ):
        (site.home / path).unlink(missing_ok=True)


def test_every_waivable_rule_that_the_demo_needs_can_be_waived() -> None:
    assert set(WAIVED) <= WAIVABLE
