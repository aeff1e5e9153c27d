"""A rule of the ledger that no other test of the rules alone holds to."""

import pytest

from core.errors import IllegalEntry
from registry.ledger.entries import BaseServed, Revoked, Wished
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


@pytest.mark.parametrize(("wished", "stays_open"), [("1", False), ("2", True)])
def test_a_release_closes_a_wish_for_its_version_and_no_other(
    wished: str, *, stays_open: bool
) -> None:
    chain = Chain()
    chain.add(Wished(by="rita", reason_sha256=WHY, model=MODEL, version=wished))
    chain.add(judged("1"))
    chain.add(begun(chain.last, "1"))
    wish = chain.ledger_state.model(MODEL).wish
    assert (wish is not None) is stays_open
