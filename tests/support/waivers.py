"""Waivers of people who did not train the version: the author's own count for nothing."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from registry.ledger.entries import Waived
from registry.ledger.ledger import open_ledger
from registry.release.brakes import waive

SECOND, THIRD = ("omar", "4002 (omar)"), ("ines", "4003 (ines)")
"""Two people of the operating system, each by name and account."""


def waive_as_others(
    home: Path, model: str, rules: Iterable[str], hours: int = 1
) -> None:
    """Enter waivers: by one person, and of approvals by another one."""
    ledger = open_ledger(home)
    until = datetime.now(UTC) + timedelta(hours=hours)
    for rule in rules:
        by, account = THIRD if rule == "approvals" else SECOND
        waiver = Waived(
            rule=rule,
            model=model,
            until=until,
            by=by,
            account=account,
            reason_sha256="0" * 64,
        )
        waive(partial(_with_reason, waiver), "a test", ledger)


def _with_reason(waiver: Waived, digest: str) -> Waived:
    return waiver.model_copy(update={"reason_sha256": digest})
