"""Which entries of a canary may follow which."""

import pytest

from core.errors import IllegalEntry
from operations.history import history_entries
from pipelines.values.canary import CanaryPlan
from registry.ledger.chain import follow
from registry.ledger.entries import (
    BaseServed,
    CanaryPaused,
    CanaryResumed,
    CanarySkipped,
    CanaryStep,
    ReleaseAborted,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
)
from tests.support.canaries import plan
from tests.support.ledgers import MODEL, WHY, Chain, begun, frozen, judged, rolled_back


@pytest.fixture
def chain() -> Chain:
    """A ledger in which version 1 serves."""
    chain = Chain()
    chain.release("1")
    return chain


def begin(chain: Chain, canary: CanaryPlan | None = None, **who: str) -> int:
    chain.add(judged("2"))
    plain = begun(chain.last, "2")
    release = plain.release.model_copy(update={"canary": canary or plan()})
    body = {**dict(plain), "release": release, **who}
    chain.add(ReleaseBegun.model_validate(body))
    return chain.last


def skipped(
    at: int, by: str = "olga", account: str | None = "7 (olga)"
) -> CanarySkipped:
    return CanarySkipped(by=by, account=account, reason_sha256=WHY, begun=at)


def test_a_canary_goes_step_by_step_to_its_switch(chain: Chain) -> None:
    at = begin(chain)
    with pytest.raises(IllegalEntry, match="stands at the beginning, not at its end"):
        chain.add(ReleaseSwitched(begun=at))
    with pytest.raises(IllegalEntry, match="comes a weight of 5 %, not 25 %"):
        chain.add(CanaryStep(begun=at, weight=25))
    chain.add(CanaryStep(begun=at, weight=5))
    with pytest.raises(IllegalEntry, match="after 5 % comes a weight of 25 %, not 5 %"):
        chain.add(CanaryStep(begun=at, weight=5))
    with pytest.raises(IllegalEntry, match="stands at 5 %, not at its end"):
        chain.add(ReleaseSwitched(begun=at))
    chain.add(CanaryStep(begun=at, weight=25, evidence_sha256=WHY))
    with pytest.raises(IllegalEntry, match="after 25 % comes the switch"):
        chain.add(CanaryStep(begun=at, weight=25))
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    current = chain.ledger_state.model(MODEL).current
    assert current is not None
    assert current.release.version == "2"
    assert follow(None, tuple(chain.entries)) == chain.ledger_state


def test_a_paused_canary_neither_advances_nor_switches(chain: Chain) -> None:
    at = begin(chain, plan(weights=[25]))
    with pytest.raises(IllegalEntry, match="its canary has not begun"):
        chain.add(CanaryPaused(begun=at))
    chain.add(CanaryStep(begun=at, weight=25))
    with pytest.raises(IllegalEntry, match="its canary is not paused"):
        chain.add(CanaryResumed(begun=at))
    chain.add(CanaryPaused(begun=at))
    with pytest.raises(IllegalEntry, match="its canary is paused since"):
        chain.add(CanaryPaused(begun=at))
    with pytest.raises(IllegalEntry, match="its canary is paused since"):
        chain.add(ReleaseSwitched(begun=at))
    chain.add(CanaryResumed(begun=at), ReleaseSwitched(begun=at))


def test_a_paused_canary_takes_no_step(chain: Chain) -> None:
    at = begin(chain)
    chain.add(CanaryStep(begun=at, weight=5), CanaryPaused(begun=at))
    with pytest.raises(IllegalEntry, match="its canary is paused since"):
        chain.add(CanaryStep(begun=at, weight=25))


def test_only_a_second_person_skips_a_canary(chain: Chain) -> None:
    at = begin(chain, account="5 (rita)")
    for by, account in (("rita", "9 (other)"), ("olga", "5 (rita)")):
        with pytest.raises(IllegalEntry, match="a second person has to skip"):
            chain.add(skipped(at, by, account))
    chain.add(skipped(at))
    with pytest.raises(IllegalEntry, match="was skipped at entry"):
        chain.add(CanaryStep(begun=at, weight=5))
    chain.add(ReleaseSwitched(begun=at))


def test_where_an_account_is_not_on_record_names_alone_tell_people_apart(
    chain: Chain,
) -> None:
    at = begin(chain)
    with pytest.raises(IllegalEntry, match="a second person"):
        chain.add(skipped(at, "rita", None))
    chain.add(skipped(at, "olga", None))


def test_a_first_release_has_nobody_to_be_tried_on() -> None:
    chain = Chain()
    at = begin(chain)
    with pytest.raises(IllegalEntry, match="has no canary"):
        chain.add(CanaryStep(begun=at, weight=5))
    chain.add(ReleaseSwitched(begun=at))


def test_the_base_in_place_of_a_version_is_no_way_round_a_canary(chain: Chain) -> None:
    chain.add(BaseServed(by="olga", reason_sha256=WHY, model=MODEL))
    at = begin(chain)
    with pytest.raises(IllegalEntry, match="not at its end"):
        chain.add(ReleaseSwitched(begun=at))


def test_a_release_without_a_canary_takes_no_step(chain: Chain) -> None:
    chain.add(judged("2"))
    chain.add(begun(chain.last, "2"))
    at = chain.last
    for body in (
        CanaryStep(begun=at, weight=5),
        CanaryPaused(begun=at),
        CanaryResumed(begun=at),
        skipped(at),
    ):
        with pytest.raises(IllegalEntry, match="has no canary"):
            chain.add(body)
    chain.add(ReleaseSwitched(begun=at))


def test_every_brake_ends_a_canary(chain: Chain) -> None:
    first = chain.ledger_state.model(MODEL).once_served[0].begun
    at = begin(chain)
    chain.add(
        CanaryStep(begun=at, weight=5), ReleaseAborted(begun=at, reason_sha256=WHY)
    )
    for entry in (
        BaseServed(by="olga", reason_sha256=WHY, model=MODEL),
        rolled_back(first),
        frozen(),
    ):
        at = begin(chain)
        chain.add(CanaryStep(begun=at, weight=5), entry)
        assert chain.ledger_state.model(MODEL).pending is None
        with pytest.raises(IllegalEntry, match="is on its way"):
            chain.add(CanaryStep(begun=at, weight=25))


def test_a_release_that_is_begun_again_begins_its_canary_again(chain: Chain) -> None:
    at = begin(chain)
    chain.add(
        CanaryStep(begun=at, weight=5), ReleaseAborted(begun=at, reason_sha256=WHY)
    )
    again = begin(chain)
    with pytest.raises(IllegalEntry, match="comes a weight of 5 %"):
        chain.add(CanaryStep(begun=again, weight=25))


def test_history_tells_of_every_step_of_a_canary(chain: Chain) -> None:
    at = begin(chain, account="5 (rita)")
    chain.add(
        CanaryStep(begun=at, weight=5),
        CanaryPaused(begun=at),
        CanaryResumed(begun=at),
        skipped(at),
        ReleaseSwitched(begun=at),
    )
    told = history_entries(tuple(chain.entries), {})
    last = [(each.words, each.model, each.version) for each in told[at:]]
    assert last == [
        ("canary at 5 %", MODEL, "2"),
        ("canary paused without traffic", MODEL, "2"),
        ("canary resumed", MODEL, "2"),
        ("canary skipped", MODEL, "2"),
        ("full traffic", MODEL, "2"),
    ]
