"""The brakes: each is one entry, works whatever is away, and says what it came to."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import IllegalEntry, LedgerError, ReleaseError, ServingError
from operations.history import history_entries
from registry.ledger.entries import (
    Release,
    ReleaseBegun,
)
from registry.ledger.state import LedgerState
from registry.release.brakes import (
    find_rollback_target,
    freeze,
    revoke,
    roll_back,
    serve_base,
)
from registry.release.context import ReleaseContext
from registry.release.following import Route
from tests.support.fake_endpoint import MODEL, WHY, Bench, spec


def test_a_rollback_goes_to_what_served_before_and_then_further_back(
    bench: Bench,
) -> None:
    bench.obeys = True
    for version in ("1", "2", "3"):
        bench.release(version)
    for wanted in ("2", "1"):
        roll_back(MODEL, None, WHY, bench.context)
        assert bench.traffic() == (wanted, False)
    with pytest.raises(ReleaseError, match="Nothing of letters-tiny served before"):
        roll_back(MODEL, None, WHY, bench.context)


def test_a_rollback_to_a_version_that_never_served_is_refused(bench: Bench) -> None:
    bench.release("1")
    bench.begin("2")
    with pytest.raises(ReleaseError, match="Version 2 of letters-tiny never served"):
        roll_back(MODEL, "2", WHY, bench.context)


def test_a_version_that_was_gone_back_from_can_serve_again(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.release(version)
    roll_back(MODEL, None, WHY, bench.context)
    roll_back(MODEL, "2", WHY, bench.context)
    assert bench.traffic() == ("2", False)
    roll_back(MODEL, None, WHY, bench.context)
    assert bench.traffic() == ("1", False)


def test_going_back_from_the_base_is_to_what_served_before_it(bench: Bench) -> None:
    bench.obeys = True
    bench.release("1")
    serve_base(MODEL, WHY, bench.context)
    assert bench.traffic() == ("1", True)
    roll_back(MODEL, None, WHY, bench.context)
    assert bench.traffic() == ("1", False)


def test_a_revoked_version_gives_way_and_never_comes_back(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.release(version)
    revoke(MODEL, "2", WHY, bench.context)
    assert bench.traffic() == ("1", False)
    with pytest.raises(LedgerError, match="revoked"):
        roll_back(MODEL, "2", WHY, bench.context)
    with pytest.raises(LedgerError, match="revoked"):
        bench.begin("2")
    revoke(MODEL, "1", WHY, bench.context)
    assert bench.traffic() == (None, True)


def test_brakes_work_while_frozen(bench: Bench) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.release(version)
    freeze(WHY, bench.context)
    roll_back(MODEL, None, WHY, bench.context)
    serve_base(MODEL, WHY, bench.context)
    assert bench.traffic() == ("1", True)


def test_a_brake_with_the_endpoint_away_is_in_the_ledger_and_says_so(
    bench: Bench, tmp_path: Path
) -> None:
    for version in ("1", "2"):
        bench.release(version)
    from serving.client import endpoint_client

    away = replace(bench.context, endpoint=endpoint_client(tmp_path / "home"))
    with pytest.raises(ServingError, match="It is in the ledger"):
        roll_back(MODEL, None, WHY, away)
    assert bench.traffic() == ("1", False)


def test_a_brake_that_is_not_obeyed_yet_is_no_success(bench: Bench) -> None:
    for version in ("1", "2"):
        bench.release(version)
    bench.routes[MODEL] = Route(
        begun=9, serves_base=False, fingerprint=spec("2").fingerprint
    )
    with pytest.raises(
        ReleaseError,
        match=f"not yet: {spec('2').fingerprint} answers under {MODEL} still",
    ):
        roll_back(MODEL, None, WHY, bench.context)
    assert bench.traffic() == ("1", False)


def test_a_brake_that_the_endpoint_has_not_followed_to_is_no_success(
    bench: Bench,
) -> None:
    bench.release("1")
    bench.head = bench.ledger.state().head
    with pytest.raises(ReleaseError, match="has not followed"):
        serve_base(MODEL, WHY, bench.context)
    assert bench.traffic() == ("1", True)


@pytest.mark.parametrize(
    "foreign",
    [{"ledger_id": "0" * 32, "generation": 99}, {"hash": "0" * 64}],
    ids=["another ledger", "a fork"],
)
def test_an_endpoint_that_follows_something_else_obeys_no_brake(
    bench: Bench, foreign: dict[str, Any]
) -> None:
    bench.release("1")
    bench.obeys = True
    bench.on_ring = lambda here: setattr(
        here, "head", here.ledger.state().head.model_copy(update=foreign)
    )
    with pytest.raises(ReleaseError, match="not yet"):
        serve_base(MODEL, WHY, bench.context)


def test_an_endpoint_that_has_come_further_has_obeyed(bench: Bench) -> None:
    bench.release("1")
    bench.on_ring = lambda here: setattr(
        here,
        "head",
        here.ledger.state().head.model_copy(
            update={"generation": 99, "hash": "0" * 64}
        ),
    )
    assert serve_base(MODEL, WHY, bench.context).model(MODEL).serves_base


def test_there_is_a_way_back_only_where_something_served_before(bench: Bench) -> None:
    bench.obeys = True
    bench.release("1")
    assert find_rollback_target(bench.ledger.state().model(MODEL)) is None
    serve_base(MODEL, WHY, bench.context)
    assert find_rollback_target(bench.ledger.state().model(MODEL)) is not None
    revoke(MODEL, "1", WHY, bench.context)
    assert find_rollback_target(bench.ledger.state().model(MODEL)) is None


def test_a_freeze_holds_with_the_endpoint_away(bench: Bench, tmp_path: Path) -> None:
    from serving.client import endpoint_client

    freeze(WHY, replace(bench.context, endpoint=endpoint_client(tmp_path / "home")))
    with pytest.raises(IllegalEntry, match="frozen"):
        bench.begin("1")


@pytest.mark.parametrize(
    "brake",
    [
        lambda context: roll_back(MODEL, None, WHY, context),
        lambda context: serve_base(MODEL, WHY, context),
    ],
)
def test_where_nothing_was_ever_released_a_brake_says_so(
    bench: Bench, brake: Callable[[ReleaseContext], LedgerState]
) -> None:
    with pytest.raises(ReleaseError, match="was ever released"):
        brake(bench.context)
    assert bench.kinds == ["opened"]


def test_going_back_while_a_release_is_on_its_way_aborts_it_and_no_more(
    bench: Bench,
) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.release(version)
    bench.begin("3")
    roll_back(MODEL, None, WHY, bench.context)
    assert bench.traffic() == ("2", False)
    assert bench.ledger.state().model(MODEL).pending is None
    aborted = history_entries(bench.ledger.entries(), bench.ledger.texts())[-1]
    assert aborted.line.endswith(f"release aborted {MODEL} 3 by {WHY.by}: {WHY.reason}")
    roll_back(MODEL, None, WHY, bench.context)
    assert bench.traffic() == ("1", False)


@pytest.mark.parametrize("brake", ["rollback", "serve_base", "revoke", "release"])
def test_a_verdict_from_before_a_change_of_what_serves_begins_nothing(
    bench: Bench, brake: str
) -> None:
    bench.obeys = True
    for version in ("1", "2"):
        bench.release(version)
    judged = bench.judge("3")
    if brake == "rollback":
        roll_back(MODEL, None, WHY, bench.context)
    elif brake == "serve_base":
        serve_base(MODEL, WHY, bench.context)
    elif brake == "revoke":
        revoke(MODEL, "2", WHY, bench.context)
    else:
        bench.release("4")
    release = Release(
        model=MODEL,
        version="3",
        package_sha256="3" * 64,
        spec=spec("3"),
        known_answers_share=1.0,
    )
    with pytest.raises(IllegalEntry, match="what serves was changed"):
        bench.write(
            ReleaseBegun(
                release=release, judged=judged, by="ann", reason_sha256="0" * 64
            )
        )


def test_a_model_that_the_ledger_does_not_know_cannot_be_revoked(bench: Bench) -> None:
    bench.release("1")
    with pytest.raises(ReleaseError, match=f"knows no model typo, only {MODEL}"):
        revoke("typo", "1", WHY, bench.context)
