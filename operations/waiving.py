"""`assay waive`: a rule of the gate `judge` does not hold for a model until a time."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.account import current_user, operating_system_account
from core.errors import ParameterError
from operations.orders import check_reason, current_project
from registry.ledger.entries import MODEL_NAME, Waived
from registry.release.brakes import waive
from registry.release.judge import WAIVABLE

# `24h` or `7d`.
_SPAN = re.compile(r"([1-9][0-9]{0,3})([hd])")
# A waiver is for a while; a rule that never holds belongs into the policy.
_LONGEST = timedelta(days=90)
_NO_DIGEST = "0" * 64
"""Of a waiver whose reason is not in the ledger yet."""


@dataclass(frozen=True)
class EnteredWaiver:
    """A waiver and the ledger entry that holds it."""

    waiver: Waived
    generation: int


def enter_waiver(model: str, rule: str, until: str, reason: str) -> EnteredWaiver:
    """Enter a waiver into the ledger.

    `until` is a time (2026-12-01T18:00+01:00) or a span (24h, 7d). `ParameterError` where the
    rule, the time, the model's name or the reason does not fit.
    """
    from registry.ledger.ledger import open_ledger

    waiver = draft_waiver(model, rule, until, current_user())
    recorded_reason = check_reason(reason)
    ledger = open_ledger(current_project().home)
    last_entry = ledger.state().at
    # A clock that is behind would enter a waiver that had ended before it began.
    if not last_entry < waiver.until:
        raise ParameterError(
            f"--until {until} is before the ledger's last entry ({last_entry:%Y-%m-%d %H:%M} UTC). "
            "Set this machine's clock right."
        )
    # The reason is kept beside the ledger, which holds its digest alone.
    ledger_state = waive(
        lambda digest: waiver.model_copy(update={"reason_sha256": digest}),
        recorded_reason,
        ledger,
    )
    return EnteredWaiver(waiver, ledger_state.head.generation)


def check_waivers(model: str, rules: Sequence[str], until: str) -> None:
    """`ParameterError` where one of the waivers could not be entered."""
    by = current_user()
    for rule in rules:
        draft_waiver(
            model,
            rule,
            until,
            by,
        )


def draft_waiver(model: str, rule: str, until: str, by: str) -> Waived:
    """Make a waiver that can be entered, still without the digest of its reason.

    `ParameterError` where the rule cannot be waived, where the time has passed or is more than 90
    days ahead, or where no registered model can have that name.
    """
    if rule not in WAIVABLE:
        raise ParameterError(
            f"The rule {rule!r} cannot be waived. These can: {', '.join(sorted(WAIVABLE))}."
        )
    end = _parse_until(until)
    _check_end(end, until)
    # A waiver for a name that no model can have would look valid and hold for nothing.
    if not re.fullmatch(MODEL_NAME, model):
        raise ParameterError(
            f"--model {model[:40]!r} is no name of a registered model. "
            "Give one of letters, digits, dot, dash, underscore."
        )
    return Waived(
        rule=rule,
        model=model,
        until=end,
        by=by,
        reason_sha256=_NO_DIGEST,
        account=operating_system_account(),
    )


def _check_end(end: datetime, until: str) -> None:
    now = datetime.now(UTC)
    # Asked as what must hold, so that nothing incomparable passes.
    if not now < end:
        raise ParameterError(
            f"--until {until} has passed. Give a time to come, or a span such as 24h."
        )
    if not end - now <= _LONGEST:
        raise ParameterError(
            f"--until {until} is more than {_LONGEST.days} days ahead. "
            "A waiver is for a while: give an earlier time, such as 7d."
        )


def _parse_until(text: str) -> datetime:
    """Read a time or a span, in UTC.

    A time at the end of the calendar has no form in UTC. It is refused here, and not by whoever
    reads the ledger.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        amount = int(span[1])
        is_hours = span[2] == "h"
        duration = timedelta(hours=amount) if is_hours else timedelta(days=amount)
        return datetime.now(UTC) + duration
    try:
        # A time without a zone is one of this machine's clock.
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ParameterError(
            f"--until {text!r} is neither a time such as 2026-12-01T18:00+01:00 "
            "nor a span such as 24h or 7d."
        ) from None
