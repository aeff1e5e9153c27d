"""What the release manager types: slips are found before anything is written."""

from datetime import UTC, datetime, timedelta

import pytest

from flows.orders import waiver
from pipelines.errors import ParameterError
from pipelines.judge import WAIVABLE
from tests.journey import Checkout, invoke


@pytest.mark.parametrize(("until", "span"), [("24h", timedelta(hours=24)), ("7d", timedelta(days=7))])
def test_a_span_ends_that_long_from_now(until: str, span: timedelta) -> None:
    before = datetime.now(UTC)
    assert before + span <= waiver("m", "approvals", until, "ann").until <= datetime.now(UTC) + span


def test_a_time_without_a_zone_is_local_time() -> None:
    soon = (datetime.now() + timedelta(hours=1)).replace(microsecond=0)  # noqa: DTZ005 - as a person types it
    assert waiver("m", "approvals", soon.isoformat(), "ann").until == soon.astimezone()


@pytest.mark.parametrize("until", ["yesterday", "0h", "24", "-3h", "2026-13-01T00:00", "99999d"])
def test_what_is_no_time_is_refused(until: str) -> None:
    with pytest.raises(ParameterError, match="neither a time"):
        waiver("m", "approvals", until, "ann")


def test_a_time_that_has_passed_is_refused() -> None:
    with pytest.raises(ParameterError, match="has passed"):
        waiver("m", "approvals", "2020-01-01T00:00+00:00", "ann")


@pytest.mark.parametrize("rule", ["screen", "revoked", "frozen", "comparator", "", "human rating"])
def test_evidence_cannot_be_waived(rule: str) -> None:
    assert rule not in WAIVABLE
    with pytest.raises(ParameterError, match="cannot be waived"):
        waiver("m", rule, "24h", "ann")


def test_an_order_without_a_reason_is_refused(checkout: Checkout) -> None:
    assert invoke(checkout, "freeze").code == 2
    done = invoke(checkout, "freeze", "--reason", "  ")
    assert (done.code, done.out) == (1, "")
    assert "--reason is empty" in done.err
    assert not (checkout.home / "ledger.db").exists()
