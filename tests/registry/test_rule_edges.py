"""A rule of the ledger that no other test of the rules alone holds to."""

import pytest

from core.errors import IllegalEntry
from registry.ledger.entries import BaseServed
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
