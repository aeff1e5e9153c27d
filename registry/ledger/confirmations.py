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
    year = timedelta(days=DAYS)
    begin = at - year
    of_model = ledger_state.confirmations_of(model)
    # A running year: a calendar year would let two budgets be spent around its turn.
    return tuple(
        each
        for each in of_model
        # One that is exactly a year old has given its place back.
        if each.at > begin
    )


def next_level(ledger_state: LedgerState, model: str, at: datetime) -> float | None:
    """The level of the next confirmation; None where the year's budget is spent."""
    of_year = confirmations_of_year(ledger_state, model, at)
    if len(of_year) >= MOST_A_YEAR:
        return None
    handed_on = 0.0
    # A confirmation that was right leaves its level to the next one. Counted within the year: what
    # was handed on from year to year would grow beyond the error of each.
    for recorded in of_year:
        own = level_of(recorded.opened.number, handed_on)
        handed_on = own if recorded.is_confirmed else 0.0
    return level_of(len(of_year) + 1, handed_on)


def next_is_possible_at(
    ledger_state: LedgerState, model: str, at: datetime
) -> datetime:
    """When the oldest confirmation of a spent year is a year old."""
    of_year = confirmations_of_year(ledger_state, model, at)
    # Counted from the end: only so many back does one make room for the next.
    blocking = of_year[-MOST_A_YEAR]
    year = timedelta(days=DAYS)
    return blocking.at + year


def block_opened(
    ledger_state: LedgerState, entry: Entry, body: BlockOpened
) -> LedgerState:
    """Spend a block; illegal at another level than its own, or for what was tried before."""
    _check_level(ledger_state, entry, body)
    # All of them and not the year's: rows that were looked at stay looked at. Of other models, too:
    # another name gives an adapter no second try.
    for earlier in ledger_state.confirmations:
        _check_is_new(entry, body, earlier)
    recorded = RecordedConfirmation(
        opened=body,
        generation=entry.generation,
        at=entry.at,
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
        is_of_entry = each.generation == body.opened
        is_of_model = each.opened.model == body.model
        # Closed once: a second result could take back one that nobody liked.
        is_open = each.closed is None
        if is_of_entry and is_of_model and is_open:
            is_found = True
            closed = each.model_copy(update={"closed": body})
            changed.append(closed)
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
    number = len(of_year) + 1
    # The number, too: two runs at once must not share one share of the error.
    is_next = body.number == number
    # Asked as a pass: a NaN is near nothing.
    is_own_level = math.isclose(body.level, level, rel_tol=_ROUNDING)
    if not (is_next and is_own_level):
        raise illegal(
            entry,
            f"confirmation {number} of {body.model} has the level {level:.6f}, "
            f"and it names confirmation {body.number} at {body.level:.6f}",
        )


def _check_is_new(
    entry: Entry, body: BlockOpened, earlier: RecordedConfirmation
) -> None:
    opened = earlier.opened
    # Rows that chose once are no longer independent of what is trained next.
    is_same_model = opened.model == body.model
    if is_same_model and opened.rows_sha256 == body.rows_sha256:
        raise illegal(
            entry, f"entry {earlier.generation} opened the same block: it is spent"
        )
    candidate = (body.adapter_sha256, body.against, body.against_sha256)
    if (opened.adapter_sha256, opened.against, opened.against_sha256) == candidate:
        raise illegal(
            entry,
            f"entry {earlier.generation} tried this adapter against the same opponent",
        )
