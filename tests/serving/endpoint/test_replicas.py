"""Three replicas of one ledger on PostgreSQL: killed and cut off in the middle of a release."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from registry.ledger.entries import ReleaseCompleted, ReleaseSwitched
from registry.ledger.ledger import open_ledger
from registry.release.brakes import roll_back
from registry.release.context import ChangeRequest
from registry.release.release import drive_release
from tests.support.endpoint_system import MODEL, Home, endpoint
from tests.support.postgres import Postgres, postgres
from tests.support.replicas import NAMES, Cable, Replicas
from tests.support.waiting import SECONDS_AT_MOST, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def cable(cluster: Postgres) -> Iterator[Cable]:
    made = Cable(cluster.port)
    yield made
    made.close()


@pytest.fixture
def replicas(
    home: Home,
    cluster: Postgres,
    cable: Cable,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Replicas]:
    """Three that answer with version 1; the last one reaches PostgreSQL by the cable."""
    url = cluster.create(f"d{abs(hash(request.node.name))}")
    monkeypatch.setenv("ASSAY_LEDGER_URL", url)
    monkeypatch.setenv("ASSAY_SPARE_ENGINES", "0")
    open_ledger(home.path)
    urls = dict.fromkeys(NAMES, url)
    urls["pod-3"] = url.replace(str(cluster.port), str(cable.port))
    with ExitStack() as stack:
        made = Replicas(home, stack, monkeypatch, urls)
        for name in NAMES:
            made.start(name)
        home.begin("1")
        drive_release(MODEL, made.context)
        assert released(made) == "1"
        yield made


def released(replicas: Replicas) -> str | None:
    """The version whose release is complete."""
    answering = replicas.home.ledger_state.model(MODEL).answering
    if answering is None or not answering.is_completed:
        return None
    return answering.release.version


def entered_at(
    replicas: Replicas, kind: type[ReleaseSwitched | ReleaseCompleted], begun: int
) -> float:
    """When the entry of that kind about a release was made."""
    [entry] = [
        each
        for each in open_ledger(replicas.home.path).entries()
        if isinstance(each.body, kind) and each.body.begun == begun
    ]
    return entry.at.timestamp()


def test_two_are_killed_and_one_is_cut_off_in_a_release_under_load(
    replicas: Replicas, cable: Cable
) -> None:
    home, balancer = replicas.home, replicas.balancer
    one, two = (home.specs[version].fingerprint for version in ("1", "2"))
    for name in NAMES:
        assert replicas.answers_with(name) == one
    with balancer.asking():
        balancer.wait_for_answers(20, fingerprint=one)
        begun = home.begin("2")
        driving = threading.Thread(target=drive_release, args=(MODEL, replicas.context))
        driving.start()
        cable.cut()
        replicas.kill("pod-1")
        replicas.kill("pod-2")
        # What is cut off answers on, and says that others should be asked.
        wait_until(lambda: replicas.ready("pod-3").status_code == 503)
        assert "nothing is known of the ledger" in replicas.ready("pod-3").text
        assert released(replicas) != "2"
        replicas.start("pod-1")
        replicas.start("pod-2")
        driving.join(SECONDS_AT_MOST)
        assert released(replicas) == "2"
        for name in NAMES:
            balancer.wait_for_answers(5, name)
        assert any(
            "! Replica pod-3 reports no more" in each for each in replicas.status
        )
        cable.mend()
        wait_until(lambda: replicas.answers_with("pod-3") == two)
    wait_until(lambda: not any("! Replica" in line for line in replicas.status))
    switched = entered_at(replicas, ReleaseSwitched, begun)
    completed = entered_at(replicas, ReleaseCompleted, begun)
    assert [each for each in balancer.lost if not replicas.was_killed(each)] == []
    # Only what was judged answers: before the switch by the old release alone, once the release
    # is complete by the new one, but for the replica that nobody should ask.
    assert {answer.fingerprint for answer in balancer.answers} == {one, two}
    early = [each for each in balancer.answers if each.until < switched]
    assert {answer.fingerprint for answer in early} == {one}
    late = [each for each in balancer.answers if each.since > completed]
    assert {each.fingerprint for each in late if each.name != "pod-3"} == {two}


def test_a_rollback_is_obeyed_by_all_and_one_that_ended_in_order_is_not_waited_for(
    replicas: Replicas,
) -> None:
    home, balancer = replicas.home, replicas.balancer
    one, two = (home.specs[version].fingerprint for version in ("1", "2"))
    home.begin("2")
    drive_release(MODEL, replicas.context)
    assert [replicas.answers_with(name) for name in NAMES] == [two] * 3
    with balancer.asking():
        balancer.wait_for_answers(10, fingerprint=two)
        roll_back(MODEL, None, ChangeRequest("ann", "it is worse"), replicas.context)
        # Obeyed: nobody answers by the other one any more.
        balancer.wait_for_answers(1)
        assert [replicas.answers_with(name) for name in NAMES] == [one] * 3
    assert balancer.lost == []
    assert replicas.running["pod-3"].end() == 0
    lines = replicas.status
    named = [name for name in NAMES if any(f"{name} at http" in each for each in lines)]
    assert named == ["pod-1", "pod-2"]
    assert not any("! Replica" in line for line in lines)


def test_two_under_one_name_are_told_apart(replicas: Replicas) -> None:
    # A mistake: another home is served under the name of the first.
    other = replicas.home.copy(replicas.home.path.parent / "other")
    with replicas.monkeypatch.context() as patch:
        patch.setenv("ASSAY_REPLICA", "pod-1")
        with endpoint(other):
            wait_until(lambda: replicas.ready("pod-1").status_code == 503)
            assert "Another process reports as pod-1" in replicas.ready("pod-1").text
    wait_until(lambda: replicas.ready("pod-1").status_code == 200)
