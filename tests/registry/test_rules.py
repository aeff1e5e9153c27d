"""Which entries may follow which, and what they amount to."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import IllegalEntry
from registry.ledger.chain import follow, signed_entry
from registry.ledger.entries import (
    BaseServed,
    Body,
    HeadAccepted,
    KeyAdded,
    KeyRevoked,
    LostHead,
    Opened,
    ReleaseAborted,
    ReleaseCompleted,
    ReleaseSwitched,
    Revoked,
    Waived,
)
from registry.ledger.rules import check_next, start_state
from registry.ledger.state import ModelState
from tests.support.ledgers import (
    MODEL,
    SPEC,
    START,
    WHY,
    Chain,
    adapter,
    adopted,
    begun,
    frozen,
    judged,
    registered,
    rolled_back,
    unfrozen,
)


@pytest.fixture
def chain() -> Chain:
    return Chain()


def refuses(chain: Chain, body: Body, fact: str) -> None:
    before = chain.ledger_state
    with pytest.raises(IllegalEntry, match=fact):
        chain.add(body)
    assert chain.ledger_state == before


def revoked(version: str) -> Revoked:
    return Revoked(by="olga", reason_sha256=WHY, model=MODEL, version=version)


def base_served() -> BaseServed:
    return BaseServed(by="olga", reason_sha256=WHY, model=MODEL)


def waived(hours: float, model: str = MODEL) -> Waived:
    return Waived(
        by="olga",
        reason_sha256=WHY,
        rule="human_rating",
        model=model,
        until=START + timedelta(hours=hours),
    )


def begin(chain: Chain, version: str = "1") -> int:
    chain.add(judged(version))
    chain.add(begun(chain.last, version))
    return chain.last


def test_a_release_serves_from_its_switch_on_and_the_one_before_stays_at_hand(
    chain: Chain,
) -> None:
    one = chain.release("1")
    two = begin(chain, "2")
    assert chain.ledger_state.model(MODEL).current.begun == one  # type: ignore[union-attr]
    chain.add(ReleaseSwitched(begun=two))
    model = chain.ledger_state.model(MODEL)
    assert [each.begun for each in model.served] == [one, two]
    assert model.current is not None
    assert model.before is not None
    assert (model.current.begun, model.before.begun, model.pending) == (two, one, None)
    assert model.current.is_completed is False
    assert chain.add(ReleaseCompleted(begun=two)).model(MODEL).served[-1].is_completed


def test_a_model_that_no_entry_names_stands_at_nothing(chain: Chain) -> None:
    assert chain.ledger_state.model("other") == ModelState()
    assert chain.ledger_state.model("other").before is None


def test_a_ledger_begins_with_its_opening(chain: Chain) -> None:
    with pytest.raises(IllegalEntry, match="beginning is cut off"):
        start_state(signed_entry(frozen(), START, None, chain.key))
    with pytest.raises(IllegalEntry, match="beginning is cut off"):
        start_state(chain.entries[0].model_copy(update={"generation": 2}))


def test_a_ledger_is_opened_once(chain: Chain) -> None:
    refuses(chain, Opened(ledger_id="2" * 32, key=chain.key.public), "opened once")


def test_a_key_is_added_once_and_only_one_that_is_there_is_revoked(
    chain: Chain,
) -> None:
    other = Chain().key.public
    refuses(
        chain,
        KeyAdded(by="olga", reason_sha256=WHY, key=chain.key.public),
        "is there already",
    )
    refuses(
        chain,
        KeyRevoked(by="olga", reason_sha256=WHY, key_id=other.key_id),
        "there is no key",
    )
    ledger_state = chain.add(KeyAdded(by="olga", reason_sha256=WHY, key=other))
    assert ledger_state.key(other.key_id) == other
    assert chain.add(
        KeyRevoked(by="olga", reason_sha256=WHY, key_id=other.key_id)
    ).keys == (chain.key.public,)


def test_the_last_key_of_the_controller_cannot_be_revoked(chain: Chain) -> None:
    admission = Chain().key.public.model_copy(update={"role": "admission"})
    chain.add(KeyAdded(by="olga", reason_sha256=WHY, key=admission))
    refuses(
        chain,
        KeyRevoked(by="olga", reason_sha256=WHY, key_id=chain.key.public.key_id),
        "last key of the controller",
    )


def test_a_verdict_leans_only_on_a_waiver_of_its_model_that_holds(chain: Chain) -> None:
    chain.add(waived(1), waived(1, "other"))
    refuses(
        chain,
        judged(waivers=(3,)),
        "waiver of entry 3, which does not hold for letters",
    )
    refuses(chain, judged(waivers=(1,)), "waiver of entry 1")
    chain.add(judged(waivers=(2,)))
    chain.add(frozen(), unfrozen(), later=timedelta(minutes=31))
    refuses(chain, judged(waivers=(2,)), "waiver of entry 2")


def test_a_waiver_holds_until_its_end_and_not_at_it(chain: Chain) -> None:
    until = chain.add(waived(1)).waivers[0].until
    with pytest.raises(IllegalEntry, match="waiver of entry 2"):
        check_next(chain.ledger_state, judged(waivers=(2,)), until)
    check_next(
        chain.ledger_state, judged(waivers=(2,)), until - timedelta(microseconds=1)
    )


def test_a_waiver_that_ended_after_the_verdict_stops_the_beginning(
    chain: Chain,
) -> None:
    chain.add(waived(1))
    chain.add(judged(waivers=(2,)))
    chain.add(frozen(), unfrozen(), later=timedelta(minutes=31))
    refuses(chain, begun(3), "waiver of entry 2")


def test_a_waiver_that_ends_takes_nothing_out_of_service_and_blocks_no_way_back(
    chain: Chain,
) -> None:
    chain.add(waived(1))
    chain.add(judged(waivers=(2,)), begun(3), ReleaseSwitched(begun=4))
    chain.add(frozen(), unfrozen(), later=timedelta(hours=2))
    chain.release("2")
    assert chain.add(rolled_back(4)).model(MODEL).current.begun == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("verdict", ["rejected", "undecided"])
def test_only_what_passed_can_begin(chain: Chain, verdict: str) -> None:
    chain.add(judged(verdict=verdict))
    refuses(chain, begun(2), "no passed verdict")
    refuses(chain, begun(1), "no passed verdict")
    refuses(chain, begun(9), "no passed verdict")


def test_a_verdict_counts_for_the_version_the_model_and_the_bytes_that_were_judged(
    chain: Chain,
) -> None:
    chain.add(judged("1"))
    refuses(chain, begun(2, "2"), "another version or other bytes")
    refuses(chain, begun(2, "1", "other"), "another version or other bytes")
    right = begun(2, "1")
    wrong = right.model_copy(
        update={
            "release": right.release.model_copy(update={"package_sha256": "d" * 64})
        }
    )
    refuses(chain, wrong, "another version or other bytes")


def test_a_later_verdict_that_did_not_pass_takes_the_earlier_one_back(
    chain: Chain,
) -> None:
    chain.add(
        judged("1"), judged("1", verdict="rejected"), judged("2", verdict="rejected")
    )
    refuses(chain, begun(2), "entry 3 judged it again")
    chain.add(judged("1"))
    chain.add(begun(5))


def test_nothing_begins_while_releases_are_frozen(chain: Chain) -> None:
    chain.add(judged(), frozen())
    refuses(chain, begun(2), "frozen since entry 3")
    chain.add(unfrozen(), begun(2))


def test_nothing_begins_that_is_revoked(chain: Chain) -> None:
    chain.add(judged(), revoked("1"))
    refuses(chain, begun(2), "version 1 of letters is revoked")


def test_one_release_of_a_model_is_on_its_way_at_a_time_and_models_do_not_wait_for_each_other(
    chain: Chain,
) -> None:
    at = begin(chain)
    chain.add(judged("2"))
    refuses(chain, begun(chain.last, "2"), f"on its way since entry {at}")
    chain.add(judged("1", "other"))
    chain.add(begun(chain.last, "1", "other"))


@pytest.mark.parametrize(
    "body", [ReleaseSwitched(begun=7), ReleaseAborted(begun=7, reason_sha256=WHY)]
)
def test_only_what_is_on_its_way_is_switched_or_aborted(
    chain: Chain, body: Body
) -> None:
    begin(chain)
    refuses(chain, body, "no release that began at entry 7 is on its way")


def test_only_what_serves_is_completed_and_only_once(chain: Chain) -> None:
    at = begin(chain)
    refuses(chain, ReleaseCompleted(begun=at), "not what serves")
    chain.add(ReleaseSwitched(begun=at), ReleaseCompleted(begun=at))
    refuses(chain, ReleaseCompleted(begun=at), "completed already")


def test_an_aborted_release_never_serves(chain: Chain) -> None:
    at = begin(chain)
    assert (
        chain.add(ReleaseAborted(begun=at, reason_sha256=WHY)).model(MODEL).served == ()
    )
    refuses(chain, ReleaseSwitched(begun=at), "is on its way")
    refuses(chain, rolled_back(at), "ever served")


def test_a_rollback_goes_to_what_served_before_and_aborts_what_is_on_its_way(
    chain: Chain,
) -> None:
    one, _ = chain.release("1"), chain.release("2")
    begin(chain, "3")
    model = chain.add(rolled_back(one)).model(MODEL)
    assert [each.begun for each in model.served] == [one]
    assert model.pending is None
    refuses(chain, rolled_back(one), "serves already")
    refuses(chain, rolled_back(99), "ever served")


def test_a_rollback_can_go_forward_again(chain: Chain) -> None:
    one, two = chain.release("1"), chain.release("2")
    model = chain.add(rolled_back(one), rolled_back(two)).model(MODEL)
    assert [each.begun for each in model.served] == [one, two]


def test_a_version_is_served_once_whatever_spec_it_is_gone_back_to(
    chain: Chain,
) -> None:
    one = chain.release("1")
    chain.add(judged("1"))
    chain.add(
        begun(chain.last, "1", spec=SPEC.model_copy(update={"precision": "bfloat16"}))
    )
    chain.add(ReleaseSwitched(begun=chain.last))
    model = chain.add(rolled_back(one)).model(MODEL)
    assert [each.begun for each in model.served] == [one]


def test_a_rollback_goes_neither_to_a_revoked_version_nor_is_it_stopped_by_a_freeze(
    chain: Chain,
) -> None:
    one, two, _ = chain.release("1"), chain.release("2"), chain.release("3")
    chain.add(revoked("1"), frozen())
    refuses(chain, rolled_back(one), "version 1 of letters is revoked")
    chain.add(rolled_back(two))


def test_the_base_serves_until_the_next_rollback_or_release(chain: Chain) -> None:
    refuses(chain, base_served(), "never released|was ever released")
    one = chain.release("1")
    begin(chain, "2")
    model = chain.add(base_served()).model(MODEL)
    assert model.serves_base
    assert model.pending is None
    assert not chain.add(rolled_back(one)).model(MODEL).serves_base
    chain.add(base_served())
    chain.release("2")
    assert not chain.ledger_state.model(MODEL).serves_base


def test_what_is_revoked_goes_under_every_name(chain: Chain) -> None:
    same = adapter("1")
    chain.release("1")
    kept = chain.release("1", "other")
    chain.release("2", "other", same)
    chain.add(judged("1", "third"))
    chain.add(begun(chain.last, "1", "third", adapter_sha256=same))
    ledger_state = chain.add(revoked("1"))
    other = ledger_state.model("other")
    assert other.current is not None
    assert (other.current.begun, other.revoked) == (kept, frozenset({"2"}))
    assert ledger_state.model("third").pending is None
    chain.add(judged("9", "fourth"))
    refuses(
        chain,
        begun(chain.last, "9", "fourth", adapter_sha256=same),
        "its adapter was revoked under another name",
    )


def test_a_version_that_was_only_judged_is_revoked_under_every_name_too(
    chain: Chain,
) -> None:
    chain.add(
        judged("1", adapter_sha256=adapter("1")), revoked("1"), judged("1", "other")
    )
    refuses(
        chain,
        begun(chain.last, "1", "other", adapter_sha256=adapter("1")),
        "its adapter was revoked",
    )
    chain.add(begun(chain.last, "1", "other"))


def test_bytes_that_nobody_judged_are_revoked_under_every_name_where_they_are_named(
    chain: Chain,
) -> None:
    chain.add(
        revoked("1").model_copy(update={"adapter_sha256": adapter("1")}),
        judged("1", "other"),
    )
    refuses(
        chain,
        begun(chain.last, "1", "other", adapter_sha256=adapter("1")),
        "its adapter was revoked",
    )


def test_where_the_served_version_is_revoked_the_one_before_takes_over_and_then_the_base(
    chain: Chain,
) -> None:
    one, _ = chain.release("1"), chain.release("2")
    model = chain.add(revoked("2")).model(MODEL)
    assert model.current is not None
    assert (model.current.begun, model.serves_base) == (one, False)
    model = chain.add(revoked("1")).model(MODEL)
    assert (model.current, model.serves_base) == (None, True)
    refuses(chain, revoked("1"), "revoked already")


def test_revoking_what_is_on_its_way_stops_it_and_nothing_else_does(
    chain: Chain,
) -> None:
    at = begin(chain, "2")
    assert chain.add(revoked("1")).model(MODEL).pending.begun == at  # type: ignore[union-attr]
    assert chain.add(revoked("2")).model(MODEL).pending is None


def test_a_loss_is_accepted_of_an_entry_that_does_not_stand_there(chain: Chain) -> None:
    head = chain.ledger_state.head
    refuses(chain, accepted(head.generation, head.hash), "entry 1 is not lost")
    chain.add(accepted(7, "f" * 64), accepted())
    assert chain.ledger_state.accepted == {"f" * 64: 2}


def accepted(generation: int = 1, digest: str | None = None) -> HeadAccepted:
    lost = () if digest is None else (LostHead(generation=generation, hash=digest),)
    return HeadAccepted(by="olga", reason_sha256=WHY, lost=lost)


def test_a_freeze_aborts_what_is_on_its_way_and_there_is_one_at_a_time(
    chain: Chain,
) -> None:
    refuses(chain, unfrozen(), "not frozen")
    begin(chain)
    ledger_state = chain.add(frozen())
    assert ledger_state.model(MODEL).pending is None
    assert ledger_state.frozen is not None
    assert ledger_state.frozen.by == "olga"
    refuses(chain, frozen(), f"frozen already, since entry {chain.last}")


_VERSIONS = st.sampled_from(["1", "2", "3"])
_REFERENCES = st.integers(1, 40)
_BODIES = st.one_of(
    st.builds(
        judged, _VERSIONS, verdict=st.sampled_from(["passed", "passed", "rejected"])
    ),
    st.builds(
        begun,
        _REFERENCES,
        _VERSIONS,
        spec=st.sampled_from([SPEC, SPEC.model_copy(update={"precision": "bfloat16"})]),
    ),
    st.builds(lambda at: ReleaseSwitched(begun=at), _REFERENCES),
    st.builds(lambda at: ReleaseCompleted(begun=at), _REFERENCES),
    st.builds(lambda at: ReleaseAborted(begun=at, reason_sha256=WHY), _REFERENCES),
    st.builds(rolled_back, _REFERENCES),
    st.builds(revoked, _VERSIONS),
    st.sampled_from([frozen(), unfrozen(), base_served()]),
)


def _resolved(body: Body, chain: Chain) -> Body:
    """Point a reference at an entry that it could mean.

    Otherwise half of all bodies would be refused for that alone.
    """
    places = {
        "release_begun": [
            each.generation for each in chain.entries if each.body.kind == "judged"
        ],
        "release_switched": [
            each.pending.begun
            for each in chain.ledger_state.models.values()
            if each.pending
        ],
        "release_completed": [
            each.current.begun
            for each in chain.ledger_state.models.values()
            if each.current
        ],
        "release_aborted": [
            each.pending.begun
            for each in chain.ledger_state.models.values()
            if each.pending
        ],
        "rolled_back": [
            each.begun
            for model in chain.ledger_state.models.values()
            for each in model.once_served
        ],
    }.get(body.kind)
    field = {"release_begun": "judged", "rolled_back": "to"}.get(body.kind, "begun")
    return (
        body.model_copy(update={field: places[getattr(body, field) % len(places)]})
        if places
        else body
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(_BODIES, max_size=30))
def test_whatever_follows_legally_keeps_the_promises_and_replays_to_the_same(
    bodies: list[Body],
) -> None:
    chain = Chain()
    for body in bodies:
        try:
            chain.add(_resolved(body, chain))
        except IllegalEntry:
            continue
        model = chain.ledger_state.model(MODEL)
        versions = [each.release.version for each in model.served]
        assert not model.revoked & set(versions)
        assert len(versions) == len(set(versions))
        assert model.pending is None or (
            chain.ledger_state.frozen is None
            and model.pending.release.version not in model.revoked
        )
        assert all(
            chain.ledger_state.judged[each.judged].verdict == "passed"
            for each in model.once_served
        )
        assert model.served or model.serves_base or not model.once_served
    assert follow(None, chain.entries) == chain.ledger_state
    assert [each.generation for each in chain.entries] == list(range(1, chain.last + 1))
    halves = itertools.islice(chain.entries, chain.last // 2, None)
    assert (
        follow(
            follow(None, chain.entries[: chain.last // 2]) if chain.last > 1 else None,
            halves,
        )
        == chain.ledger_state
    )


def test_a_version_is_registered_once_and_another_package_of_its_number_takes_the_place(
    chain: Chain,
) -> None:
    chain.add(registered("1"))
    refuses(chain, registered("1"), "is registered already, at entry 2")
    refuses(chain, adopted("1"), "is registered already, at entry 2")
    again = registered("1").model_copy(update={"package_sha256": "d" * 64})
    chain.add(again)  # MLflow began its numbers anew
    known = chain.ledger_state.registration(MODEL, "1")
    assert known is not None
    assert (known.generation, known.made.package_sha256, known.is_adopted) == (
        3,
        "d" * 64,
        False,
    )
    assert chain.ledger_state.registration(MODEL, "2") is None


def test_who_adopted_a_version_stays_on_record(chain: Chain) -> None:
    chain.add(adopted("1"))
    known = chain.ledger_state.registration(MODEL, "1")
    assert known is not None
    assert (known.by, known.account, known.is_adopted) == ("olga", "7 (olga)", True)


def test_a_verdict_leans_on_the_last_registration_of_the_very_same_bytes(
    chain: Chain,
) -> None:
    chain.add(registered("1"))
    own = judged("1", adapter_sha256=adapter("1"), registration=2)
    refuses(
        chain,
        judged("1", adapter_sha256=adapter("1"), registration=1),
        "entry 1 is not the registration",
    )
    refuses(
        chain,
        judged("2", adapter_sha256=adapter("2"), registration=2),
        "entry 2 is not the registration",
    )
    refuses(
        chain,
        own.model_copy(update={"package_sha256": "d" * 64}),
        "entry 2 registered other bytes",
    )
    refuses(
        chain,
        own.model_copy(update={"adapter_sha256": "d" * 64}),
        "entry 2 registered other bytes",
    )
    chain.add(own)
    assert chain.ledger_state.judged[3].registration == 2


def test_once_a_ledger_knows_registrations_nothing_is_released_without_one(
    chain: Chain,
) -> None:
    old = chain.release("1")  # from before: its ledger has none
    assert chain.ledger_state.model(MODEL).current.begun == old  # type: ignore[union-attr]
    chain.add(registered("2"), judged("2", adapter_sha256=adapter("2")))
    refuses(
        chain,
        begun(chain.last, "2"),
        "judged a version whose registration the ledger does not hold",
    )
    chain.add(judged("2", adapter_sha256=adapter("2"), registration=6))
    other = begun(chain.last, "2", adapter_sha256="d" * 64)
    refuses(chain, other, "with another adapter than entry")
    chain.add(begun(chain.last, "2"))


def test_a_registration_that_another_one_replaced_carries_no_release(
    chain: Chain,
) -> None:
    chain.add(registered("1"), judged("1", adapter_sha256=adapter("1"), registration=2))
    verdict = chain.last
    chain.add(registered("1").model_copy(update={"package_sha256": "d" * 64}))
    refuses(chain, begun(verdict, "1"), "entry 2 is not the registration")


def test_a_version_that_was_registered_and_never_judged_is_revoked_with_its_bytes(
    chain: Chain,
) -> None:
    chain.add(registered("1"), revoked("1"))
    assert adapter("1") in chain.ledger_state.revoked_adapters


def test_the_comparator_is_what_had_full_traffic_last_also_while_the_base_answers(
    chain: Chain,
) -> None:
    def comparator() -> str | None:
        held = chain.ledger_state.model(MODEL).comparator
        return None if held is None else held.release.version

    assert comparator() is None
    chain.release("1")
    chain.release("2")
    assert comparator() == "2"
    chain.add(base_served())
    assert comparator() == "2"
    chain.add(revoked("2"))
    assert comparator() == "1"
    chain.add(revoked("1"))
    assert comparator() is None
