"""Rules of the ledger that no other test of the rules alone holds to."""

import pytest

from core.errors import IllegalEntry
from registry.ledger.entries import BaseServed, ReleaseAborted, Revoked, Wished
from tests.support.ledgers import MODEL, WHY, Chain, begun, judged


def test_a_verdict_from_before_a_change_of_what_serves_begins_no_release() -> None:
    chain = Chain()
    chain.release("1")
    chain.add(judged("2"))
    verdict = chain.last
    chain.add(BaseServed(by="olga", reason_sha256=WHY, model=MODEL))
    with pytest.raises(
        IllegalEntry, match=f"what serves was changed at entry {chain.last}"
    ):
        chain.add(begun(verdict, "2"))
    chain.add(judged("2"))
    chain.add(begun(chain.last, "2"))


def test_a_revocation_leaves_models_with_other_bytes_alone() -> None:
    chain = Chain()
    chain.release("1")
    chain.release("2", "other")
    chain.add(Revoked(model=MODEL, version="1", by="olga", reason_sha256=WHY))
    assert chain.ledger_state.model(MODEL).revoked == {"1"}
    assert chain.ledger_state.model("other").revoked == frozenset()


def wish_for(version: str) -> Wished:
    return Wished(by="rita", reason_sha256=WHY, model=MODEL, version=version)


@pytest.mark.parametrize(("wished", "stays_open"), [("1", False), ("2", True)])
def test_a_release_closes_a_wish_for_its_version_and_no_other(
    wished: str, *, stays_open: bool
) -> None:
    chain = Chain()
    chain.add(wish_for(wished), judged("1"))
    chain.add(begun(chain.last, "1"))
    wish = chain.ledger_state.model(MODEL).wish
    assert (wish is not None) is stays_open


@pytest.mark.parametrize(("by", "stays_open"), [(None, True), ("olga", False)])
def test_a_release_that_failed_leaves_a_later_wish_open_and_a_persons_order_does_not(
    by: str | None, *, stays_open: bool
) -> None:
    chain = Chain()
    chain.add(judged("1"))
    chain.add(begun(chain.last, "1"))
    at = chain.last
    chain.add(wish_for("2"), ReleaseAborted(begun=at, by=by, reason_sha256=WHY))
    wish = chain.ledger_state.model(MODEL).wish
    assert (wish is not None) is stays_open


@pytest.mark.parametrize(("revoked", "stays_open"), [("1", False), ("2", True)])
def test_a_revocation_closes_a_wish_for_that_version_and_no_other(
    revoked: str, *, stays_open: bool
) -> None:
    chain = Chain()
    chain.add(wish_for("1"))
    chain.add(Revoked(model=MODEL, version=revoked, by="olga", reason_sha256=WHY))
    wish = chain.ledger_state.model(MODEL).wish
    assert (wish is not None) is stays_open
