"""The sealed reserve in a run: which groups are sealed, and the block that confirms a finalist.

    opened groups ─► split          Finalist ─ block opened ─ `confirm` ─ block closed

A block is spent by the entry that opens it. A run that is killed afterwards and started again finds
its own entry and ends the same test, on the same rows: it looks at no others.
"""

from dataclasses import dataclass
from pathlib import Path

from core.account import login_name, operating_system_account
from core.errors import LedgerError
from flows.run.attempt import Attempt
from flows.run.reserve_date import Shortage, say_when
from flows.run.seen_groups import groups_of, is_sealed, screen_policy
from flows.run.stage_task import run_stage
from pipelines import layout
from pipelines.gates.confirmation import (
    choose_prompt,
    confirm,
    cut_block,
    find_confirmed,
    margin_on_block,
)
from pipelines.stages.split import order_of_reserve
from pipelines.values.champion import ChampionInput
from pipelines.values.dataset import Row, read_rows
from pipelines.values.evidence import Adapter
from pipelines.values.reserve import (
    MOST_A_YEAR,
    Block,
    BlockInput,
    Confirmation,
    Opponent,
    digest_of_rows,
    key_of,
    rows_of_groups,
)
from pipelines.values.verdict import Finalist, Rejection, Undecided
from registry.ledger.confirmations import (
    confirmations_of_year,
    next_is_possible_at,
    next_level,
)
from registry.ledger.entries import BlockClosed, BlockOpened
from registry.ledger.ledger import (
    Ledger,
    now,
    open_ledger,
)
from registry.ledger.state import LedgerState, RecordedConfirmation
from registry.release.context import append


def confirm_on_reserve(
    attempt: Attempt, verdict: Finalist | Rejection | Undecided
) -> Finalist | Rejection | Undecided:
    """Confirm a finalist of `screen` on a block of the reserve, where the policy asks for it.

    Every other verdict stays as it is, and spends nothing.
    """
    # Blocks are few: what `screen` refused must not use one up.
    if not isinstance(verdict, Finalist) or not is_sealed(attempt.root):
        return verdict
    opening = _Opening(attempt, open_ledger(attempt.home), verdict)
    confirmation = opening.confirmation()
    return confirm(verdict, confirmation)


@dataclass(frozen=True)
class _Opening:
    """A finalist's try at a block."""

    attempt: Attempt
    ledger: Ledger
    finalist: Finalist

    def confirmation(self) -> Confirmation:
        """Open the next block and have it answered, or say why there is none."""
        # Its own first: started again, a run must not spend a second block.
        found = self._find_own() or self._open()
        if isinstance(found, str):
            # Written, too: the page and the next command say why nothing was confirmed.
            reason = Confirmation(missing=found)
            reason.write(self._root / layout.CONFIRMATION)
            return reason
        recorded, rows = found
        margin = margin_on_block(screen_policy(self._root), recorded.opened.against)
        block = _block_of(recorded, rows, margin)
        BlockInput(block=block).write(self._root / layout.BLOCK_INPUT)
        run_stage(self.attempt.workspace, "confirm")
        confirmation = Confirmation.read(self._root / layout.CONFIRMATION)
        # Closed already where the run was killed after that.
        if recorded.closed is None:
            self._close(recorded, confirmation)
        return confirmation

    def _find_own(self) -> tuple[RecordedConfirmation, tuple[Row, ...]] | str | None:
        """The block that this logical run opened before it was killed; None where it opened none.

        A sentence where the block is spent and cannot be finished, or another run tried this
        adapter.
        """
        own = Adapter.read(self._root / layout.ADAPTER).sha256
        tried = (own, *self._opponent())
        for recorded in self.ledger.state().confirmations:
            opened = recorded.opened
            earlier = (opened.adapter_sha256, opened.against, opened.against_sha256)
            is_own_run = opened.logical_run == self.attempt.logical_run
            if is_own_run and earlier == tried:
                return self._finish(recorded)
            # Training is not bit for bit the same everywhere: the block was the other adapter's.
            if is_own_run:
                return (
                    f"This run opened the block of entry {recorded.generation} for another adapter "
                    "or against another champion, and was stopped: that block is spent. Train "
                    "another candidate, with another seed"
                )
            # Against another champion it is another question; under another name it is not.
            if earlier == tried:
                result = "confirmed" if recorded.is_confirmed else "not confirmed"
                return (
                    f"This adapter was tried on the block of entry {recorded.generation} and "
                    f"{result}: nobody gets a second try. Train another candidate"
                )
        return None

    def _finish(
        self, recorded: RecordedConfirmation
    ) -> tuple[RecordedConfirmation, tuple[Row, ...]] | str:
        """The block of this very run, with its rows where they are all still sealed."""
        keys = groups_of(self.ledger, recorded)
        rows = rows_of_groups(self._read_sealed(), keys)
        if digest_of_rows(rows) == recorded.opened.rows_sha256:
            return recorded, rows
        # A new anchor may have been scored on some of them since.
        return (
            f"The rows of the block of entry {recorded.generation} changed since this run opened "
            "it and was stopped: that block is spent. Train another candidate"
        )

    def _open(self) -> tuple[RecordedConfirmation, tuple[Row, ...]] | str:
        """Enter that the next block is opened; a sentence where that cannot be."""
        model, state = self.attempt.model, self.ledger.state()
        # Before rows are looked at: without a level nothing could be tested on them.
        if next_level(state, model, now()) is None:
            possible = next_is_possible_at(state, model, now())
            return (
                f"The year's {MOST_A_YEAR} confirmations of {model} are spent: "
                f"the next one is possible on {possible:%Y-%m-%d}"
            )
        sealed = self._read_sealed()
        standing = read_rows(self._root / layout.HELD_OUT)
        fewest = screen_policy(self._root).block_groups
        cut = cut_block(
            standing,
            sealed,
            order_of_reserve(sealed, self.attempt.workspace.params.split),
            fewest,
        )
        if cut.lacking:
            shortage = Shortage(
                len({row.group for row in standing}),
                len({row.group for row in sealed}),
                fewest,
                cut.lacking,
            )
            return self._describe_shortage(shortage)
        after = append(
            self.ledger, lambda ledger_state: self._entry(ledger_state, cut.rows)
        )
        # By its entry: another run may have opened a block just before.
        (recorded,) = [
            each
            for each in after.confirmations_of(model)
            if each.generation == after.head.generation
        ]
        return recorded, cut.rows

    def _describe_shortage(self, shortage: Shortage) -> str:
        text = (
            f"No block of the sealed reserve is left: {shortage.lacking} groups more are needed "
            "in it, of which every other held-out one goes there. Bring rows of new groups, "
            "or have the policy say `reserve: none` and live with the error that it names"
        )
        runs = self.attempt.store.runs.scored(self.attempt.model)
        when = say_when(shortage, runs, now())
        return f"{text}. {when}" if when else text

    def _entry(self, ledger_state: LedgerState, rows: tuple[Row, ...]) -> BlockOpened:
        model, at = self.attempt.model, now()
        # Asked again under the ledger's lock, where nobody comes between.
        level = next_level(ledger_state, model, at)
        if level is None:
            raise LedgerError(
                f"Another run spent the last confirmation of {model} for this year. "
                "Run the same command again: it says when the next one is possible."
            )
        against, against_sha256 = self._opponent()
        # Keys and no texts: a ledger goes to others, and rows may be private.
        keys = dict.fromkeys(key_of(row.group) for row in rows)
        return BlockOpened(
            model=model,
            number=len(confirmations_of_year(ledger_state, model, at)) + 1,
            level=level,
            rows_sha256=digest_of_rows(rows),
            groups_sha256=self.ledger.remember("\n".join(keys)),
            adapter_sha256=Adapter.read(self._root / layout.ADAPTER).sha256,
            against=against,
            against_sha256=against_sha256,
            by=login_name(),
            account=operating_system_account(),
            logical_run=self.attempt.logical_run,
        )

    def _close(
        self, recorded: RecordedConfirmation, confirmation: Confirmation
    ) -> None:
        evidence = confirmation.evidence
        # An open block stays open: a result that nobody computed would be a guess.
        if evidence is None:
            raise LedgerError(
                f"The block of entry {recorded.generation} was opened and not answered. "
                "Run the same command again."
            )
        finding = find_confirmed(confirmation)
        entry = BlockClosed(
            model=self.attempt.model,
            opened=recorded.generation,
            is_confirmed=finding.outcome == "passed",
            evidence_sha256=evidence.sha256,
        )
        append(self.ledger, lambda _: entry)

    def _opponent(self) -> tuple[Opponent, str | None]:
        """What a confirmation compares with: the champion, else the best prompt."""
        champion = ChampionInput.read(self._root / layout.CHAMPION_INPUT).champion
        if champion is None:
            primary = screen_policy(self._root).primary
            itself = self.finalist.adapter.is_baseline
            compared = self.finalist.comparisons
            return choose_prompt(compared, primary, itself), None
        return "champion", champion.adapter.sha256

    def _read_sealed(self) -> tuple[Row, ...]:
        return read_rows(self._root / layout.SEALED)

    @property
    def _root(self) -> Path:
        return self.attempt.root


def _block_of(
    recorded: RecordedConfirmation, rows: tuple[Row, ...], margin: float
) -> Block:
    opened = recorded.opened
    return Block(
        number=opened.number,
        level=opened.level,
        groups=tuple(dict.fromkeys(key_of(row.group) for row in rows)),
        rows_sha256=opened.rows_sha256,
        against=opened.against,
        margin=margin,
    )
