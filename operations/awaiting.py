"""`assay promote --wait`: until the version has full traffic and MLflow's `champion` is it.

For CI, which has to know how it ended. Another release on its way and an endpoint that restarts
are waited for. Whoever stops waiting stops nothing else: the controller carries a release that has
begun to its end.
"""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Never

from core.environment import set_library_environment
from core.errors import RegistryError, ReleaseError, RunStopped, ServingError
from core.project import Project
from core.stopping import on_sigterm
from core.value import Value
from operations.orders import (
    attach_report,
    check_may_promote,
    current_project,
    make_order,
)
from registry.ledger.ledger import read_ledger
from registry.ledger.state import RecordedRelease
from registry.mlflow.recorded import CHAMPION
from registry.release.context import ChangeRequest

if TYPE_CHECKING:
    from flows.promote import Promotion
    from registry.mlflow.store import Store

SECONDS_BETWEEN_LOOKS = 1.0


class Serving(Value):
    """The version that was waited for has full traffic already, and MLflow says so."""

    model: str
    version: str
    released: RecordedRelease


def promote_and_wait(
    model: str, version: str, reason: str, seconds: int
) -> "Promotion | Serving":
    """Promote a version, and return once it serves, is champion, or was not let through.

    `ReleaseError` where the release failed or the time is over; `RunStopped` on Ctrl-C or
    SIGTERM. Other errors as of `promote_version`.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from registry.mlflow.home_store import open_store

    order = make_order(reason)
    project = current_project()
    check_may_promote(project, order)
    store = open_store(project)
    # By its number from here on: an alias may move meanwhile.
    number = store.get_version(model, version).version
    until = time.monotonic() + seconds
    wait = _Wait(
        project,
        store,
        model,
        number,
        until,
    )
    try:
        with on_sigterm(_raise_interrupt):
            return wait.promote(order)
    except KeyboardInterrupt as interrupt:
        raise RunStopped(wait.describe_stop()) from interrupt


def _raise_interrupt() -> Never:
    raise KeyboardInterrupt


@dataclass(frozen=True)
class _Wait:
    """What is waited for, and until when on the monotonic clock."""

    project: Project
    store: "Store"
    model: str
    version: str
    until: float

    def promote(self, order: ChangeRequest) -> "Promotion | Serving":
        """Judge, release, and wait for the alias."""
        from flows.promote import Promotion

        outcome = self._promote_once_it_answers(order)
        attach_report(outcome)
        # A verdict other than a pass is an answer: waiting would not change it.
        if isinstance(outcome, Promotion) and outcome.released is None:
            return outcome
        # A promotion moves the alias itself; without MLflow it leaves that to the controller.
        released = self._await_champion()
        if isinstance(outcome, Promotion):
            note = f"MLflow's {CHAMPION} is version {self.version}."
            return outcome.model_copy(update={"note": note})
        return Serving(
            model=self.model,
            version=self.version,
            released=released,
        )

    def describe_stop(self) -> str:
        """Say what is left behind where somebody stops waiting."""
        state = read_ledger(self.project.home).state()
        pending = state.model(self.model).pending
        subject = f"version {self.version} of {self.model}"
        if pending is None or pending.release.version != self.version:
            return (
                f"Nobody waits for {subject} any more. No release of it is on its way: "
                "`assay status` says what serves."
            )
        return (
            f"Nobody waits for {subject} any more. Its release (entry {pending.begun}) goes on: "
            "the controller of `assay up` carries it to its end. "
            "Run the same command to wait again."
        )

    def _promote_once_it_answers(self, order: ChangeRequest) -> object:
        """What `promote` gives; None where the version serves already."""
        from flows.promote import promote

        while True:
            try:
                return promote(
                    self.project,
                    self.model,
                    self.version,
                    order,
                    self.until,
                )
            except ServingError as error:
                # An endpoint that restarts is back within seconds.
                self._pause(str(error))
            except ReleaseError:
                # Also where somebody else's command released it while this one waited.
                if self._serving() is None:
                    raise
                return None

    def _await_champion(self) -> RecordedRelease:
        """The release, once MLflow's alias is the version; the controller may be away."""
        from flows.champions import move_champions

        while True:
            released = self._serving()
            if released is None:
                raise ReleaseError(
                    f"Version {self.version} of {self.model} lost its traffic while MLflow was "
                    "waited for. `assay history` says who took it away, and why."
                )
            try:
                state = read_ledger(self.project.home).state()
                sentences = move_champions(self.store, state)
                holder = self.store.holder(self.model, CHAMPION)
            except RegistryError as error:
                self._pause(self._describe_alias(str(error)))
                continue
            if holder is not None and holder.version == self.version:
                return released
            self._pause(self._describe_alias("; ".join(sentences)))

    def _describe_alias(self, fact: str) -> str:
        subject = f"Version {self.version} of {self.model}"
        return (
            f"{subject} has full traffic, and MLflow's {CHAMPION} is not it ({fact})."
        )

    def _serving(self) -> RecordedRelease | None:
        """The release of the version, if the endpoint was seen to answer with it."""
        state = read_ledger(self.project.home).state()
        answering = state.model(self.model).answering
        if answering is None or not answering.is_completed:
            return None
        is_it = answering.release.version == self.version
        return answering if is_it else None

    def _pause(self, fact: str) -> None:
        """Wait a moment; `ReleaseError` with the fact where the time is over."""
        now = time.monotonic()
        left = self.until - now
        # Asked as what must hold: a time that is no number ends the wait.
        if not left > 0:
            raise ReleaseError(
                f"The time to wait for version {self.version} of {self.model} is over: {fact} "
                "`assay status` says how it stands."
            )
        pause = min(left, SECONDS_BETWEEN_LOOKS)
        time.sleep(pause)
