"""Go back where a release that was scored again is shown to be worse: a duty of the controller.

Within the release's bake time traffic goes back by itself. Afterwards people are told.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from core.errors import IllegalEntry, ServingError
from registry.ledger.entries import Body
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.context import ReleaseContext, append
from registry.release.rescore import (
    Rescore,
    Rescores,
    describe,
    is_this_pair,
    way_back,
)

_GOES_ON = (
    "It continues to serve, since its bake time is over or nothing that it was compared with "
    "can take over; `assay rollback` goes back."
)


class WentBack(NamedTuple):
    """What came of the re-scores: sentences on what was done, and what people must look at."""

    done: tuple[str, ...]
    alarms: tuple[str, ...]


class RescoreWatch:
    """The re-scores of one home's ledger, and what is done for them."""

    def __init__(self) -> None:
        self._rescores = Rescores()

    def go_back(
        self,
        ledger: Ledger,
        ledger_state: LedgerState,
        open_context: Callable[[], ReleaseContext],
    ) -> WentBack:
        """Go back to what served before, for each model whose release is shown to be worse."""
        self._read_on(ledger, ledger_state)
        done: list[str] = []
        alarms: list[str] = []
        for name, rescore in self._against(ledger_state):
            fact = f"{name} {describe(rescore, ledger)}"
            # In nearly all rounds there is nothing to write, and nothing is opened for it.
            can_go_back = self._may_go_back(rescore, ledger_state)
            if can_go_back and self._goes_back(rescore, open_context()):
                done.append(f"{fact}: what served before serves again.")
            else:
                alarms.append(f"{fact}. {_GOES_ON}")
        return WentBack(tuple(done), tuple(alarms))

    def _read_on(self, ledger: Ledger, ledger_state: LedgerState) -> None:
        after = self._rescores.generation
        head = ledger_state.head
        # In most rounds nothing was entered.
        if after == head.generation:
            return
        # The state was verified up to its head: what came since is read in the next round.
        verified = [
            entry
            for entry in ledger.entries(after=after)
            if entry.generation <= head.generation
        ]
        self._rescores.read(verified)

    def _against(self, ledger_state: LedgerState) -> Iterator[tuple[str, Rescore]]:
        for name, model in ledger_state.models.items():
            rescore = self._rescores.find_against(model)
            if rescore is not None:
                yield name, rescore

    def _may_go_back(self, rescore: Rescore, ledger_state: LedgerState) -> bool:
        """Whether it bakes, and what it was compared with is what a rollback leads to."""
        model = ledger_state.model(rescore.body.model)
        answering = model.answering
        if answering is None or not is_this_pair(model, rescore):
            return False
        return self._rescores.bakes(rescore, answering)

    def _goes_back(self, rescore: Rescore, context: ReleaseContext) -> bool:
        def make_entry(ledger_state: LedgerState) -> Body:
            # Asked again of the state that the entry is written on.
            if not self._may_go_back(rescore, ledger_state):
                raise IllegalEntry("What serves was changed meanwhile.")
            model = ledger_state.model(rescore.body.model)
            return way_back(model, rescore, context.ledger)

        try:
            append(context.ledger, make_entry)
        except IllegalEntry:
            return False
        # It follows the ledger without a ring, too.
        with suppress(ServingError):
            context.endpoint.ring()
        return True
