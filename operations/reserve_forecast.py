"""What a sealed reserve could confirm now, as `assay run --dry-run` says it."""

from datetime import UTC, datetime
from pathlib import Path

from pipelines import layout
from pipelines.gates.confirmation import NO_RESERVE, cut_block
from pipelines.gates.policy import ScreenPolicy
from pipelines.stages.split import order_of_reserve
from pipelines.values.dataset import read_rows
from pipelines.values.params import SplitParams
from registry.ledger.confirmations import (
    confirmations_of_year,
    next_is_possible_at,
    next_level,
)
from registry.ledger.ledger import read_ledger, was_ever_opened


def describe_reserve(
    home: Path, model: str, policy: ScreenPolicy, params: SplitParams
) -> str:
    """One sentence, on the rows of the current folder: a block, or what is missing for one."""
    if policy.reserve != "sealed":
        return NO_RESERVE
    sealed = read_rows(layout.SEALED)
    # In the order of the run, so that the forecast is about the block that it opens.
    groups = order_of_reserve(sealed, params)
    held_out = read_rows(layout.HELD_OUT)
    cut = cut_block(
        held_out,
        sealed,
        groups,
        policy.block_groups,
    )
    in_block = {row.group for row in cut.rows}
    of_block = len(in_block)
    block = (
        f"{len(groups)} groups are sealed, {of_block} of them would confirm a candidate"
    )
    if cut.lacking:
        block = (
            f"{len(groups)} groups are sealed, and a confirmation needs {cut.lacking} more: "
            "what passes will be undecided. Bring rows of new groups, or have the policy say "
            "`reserve: none`"
        )
    return f"{block}; {_describe_budget(home, model)}"


def _describe_budget(home: Path, model: str) -> str:
    # A look must not make a ledger where none is.
    if not was_ever_opened(home):
        return "no confirmation was made yet"
    now = datetime.now(UTC)
    ledger = read_ledger(home)
    ledger_state = ledger.state()
    of_year = confirmations_of_year(ledger_state, model, now)
    number = len(of_year) + 1
    level = next_level(ledger_state, model, now)
    if level is None:
        possible = next_is_possible_at(ledger_state, model, now)
        return f"this year's confirmations are spent, the next is possible on {possible:%Y-%m-%d}"
    return f"the next is confirmation {number} of this year, at level {level:.4f}"
