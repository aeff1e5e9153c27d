"""Where a version came from, as its page and its report say it."""

from operations.origin_text import describe_origin
from registry.ledger.entries import OriginApproval, OriginHead, Received
from registry.ledger.state import Registration
from tests.support.ledgers import MODEL, START, WHY, Chain, made, registered


def received(*names: str, released_by: str | None = None) -> Registration | None:
    origin = OriginHead(name="staging", ledger_id="5" * 32, generation=9, hash=WHY)
    approvals = [
        OriginApproval(by=name, account=f"mlflow:{name}", at=START) for name in names
    ]
    entry = Received(
        **made().model_dump(),
        by="lena",
        origin=origin,
        version_there="7",
        entered_there=3,
        made_at=START,
        approvals=tuple(approvals),
        released_by=released_by,
        transfer_sha256=WHY,
    )
    return Chain().add(entry).registration(MODEL, "1")


def test_what_was_made_here_came_from_nowhere() -> None:
    own = Chain().add(registered()).registration(MODEL, "1")
    assert describe_origin(own) == ()
    assert describe_origin(None) == ()


def test_the_origin_is_named_with_its_ledger_and_its_author() -> None:
    (sentence,) = describe_origin(received())
    assert sentence == (
        "Received from staging, where it is version 7, made for lena on 2026-11-01 "
        "(entry 3 of ledger 555555555555, read up to entry 9)."
    )


def test_who_released_and_approved_it_there_is_named_once_and_not_without_end() -> None:
    names = ("ann", "ann", "bob", "eve", "kim", "omar", "rita")
    _, released, approved = describe_origin(received(*names, released_by="olga"))
    assert released == "Released there by olga."
    assert approved.startswith("Approved there by ann, bob, eve, kim, omar and 1 more")
    # Nobody should take these for approvals that count here.
    assert "`judge.origin_approvals`" in approved
