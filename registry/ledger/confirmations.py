"""Blocks of the sealed reserve, and the year's error that they share: steps of `rules.py`.

A block is opened once, by one candidate, at the level that follows from the confirmations before
it. So at most one year of twenty confirms a candidate that is no better, however many candidates,
seeds and runs by hand there were: `pipelines.statistics.spending` says why.
"""

import math
from datetime import datetime, timedelta

from pipelines.statistics.spending import DAYS, level_of
from pipelines.values.reserve import MOST_A_YEAR
from registry.ledger.entries import BlockClosed, BlockOpened, Entry
from registry.ledger.state import LedgerState, RecordedConfirmation
from registry.ledger.steps import illegal

_ROUNDING = 1e-9
"""Relative: a level is written by one machine and counted again by another."""


def confirmations_of_year(
    ledger_state: LedgerState, model: str, at: datetime
) -> tuple[RecordedConfirmation, ...]:
    """The confirmations of a model in the 365 days up to a time, the oldest first."""
    begin = at - timedelta(days=DAYS)
    return tuple(
        each for each in ledger_state.confirmations_of(model) if each.at > begin
    )


def next_level(ledger_state: LedgerState, model: str, at: datetime) -> float | None:
    """The level of the next confirmation; None where the year's budget is spent."""
    of_year = confirmations_of_year(ledger_state, model, at)
    if len(of_year) >= MOST_A_YEAR:
        return None
    handed_on = 0.0
    # A confirmation that was right leaves its level to the next one.
    if of_year and of_year[-1].is_confirmed:
        handed_on = of_year[-1].opened.level
    return level_of(len(of_year) + 1, handed_on)


def next_is_possible_at(
    ledger_state: LedgerState, model: str, at: datetime
) -> datetime:
    """When the oldest confirmation of a spent year is a year old."""
    of_year = confirmations_of_year(ledger_state, model, at)
    oldest = of_year[-MOST_A_YEAR].at
    return oldest + timedelta(days=DAYS)


def block_opened(
    ledger_state: LedgerState, entry: Entry, body: BlockOpened
) -> LedgerState:
    """Spend a block; illegal at another level than its own, or for what was tried before."""
    _check_level(ledger_state, entry, body)
    for earlier in ledger_state.confirmations_of(body.model):
        _check_is_new(entry, body, earlier)
    recorded = RecordedConfirmation(
        opened=body, generation=entry.generation, at=entry.at
    )
    confirmations = (*ledger_state.confirmations, recorded)
    return ledger_state.model_copy(update={"confirmations": confirmations})


def block_closed(
    ledger_state: LedgerState, entry: Entry, body: BlockClosed
) -> LedgerState:
    """Enter what an open block showed; illegal where it was closed, or never opened."""
    changed = []
    is_found = False
    for each in ledger_state.confirmations:
        is_meant = each.generation == body.opened and each.opened.model == body.model
        if is_meant and each.closed is None:
            is_found = True
            changed.append(each.model_copy(update={"closed": body}))
        else:
            changed.append(each)
    if not is_found:
        raise illegal(
            entry, f"no block of {body.model} that was opened at {body.opened} is open"
        )
    return ledger_state.model_copy(update={"confirmations": tuple(changed)})


def _check_level(ledger_state: LedgerState, entry: Entry, body: BlockOpened) -> None:
    of_year = confirmations_of_year(ledger_state, body.model, entry.at)
    level = next_level(ledger_state, body.model, entry.at)
    if level is None:
        raise illegal(
            entry,
            f"{body.model} had {len(of_year)} confirmations within {DAYS} days, "
            f"and {MOST_A_YEAR} are the most",
        )
    is_next = body.number == len(of_year) + 1
    # Asked as a pass: a NaN is near nothing.
    is_own_level = math.isclose(body.level, level, rel_tol=_ROUNDING)
    if not (is_next and is_own_level):
        raise illegal(
            entry,
            f"confirmation {len(of_year) + 1} of {body.model} has the level {level:.6f}, "
            f"and it names confirmation {body.number} at {body.level:.6f}",
        )


def _check_is_new(
    entry: Entry, body: BlockOpened, earlier: RecordedConfirmation
) -> None:
    opened = earlier.opened
    if opened.rows_sha256 == body.rows_sha256:
        raise illegal(
            entry, f"entry {earlier.generation} opened the same block: it is spent"
        )
    candidate = (body.adapter_sha256, body.against, body.against_sha256)
    if (opened.adapter_sha256, opened.against, opened.against_sha256) == candidate:
        raise illegal(
            entry,
            f"entry {earlier.generation} tried this adapter against the same opponent",
        )
