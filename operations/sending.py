"""`assay promote N --to prod`: a version goes to another installation, whose policy judges it anew.

This side sends and asks; the controller there takes the version in and answers. Whoever is cut off
repeats the command: what was sent is found again, and a wish that was granted stays granted.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.environment import set_library_environment
from core.errors import ParameterError, RegistryError, ReleaseError, TransferRefused
from core.team_server import SECONDS_TO_EXAMINE
from core.value import Value
from operations.orders import check_may_promote, current_project, make_order
from pipelines.values.verdict import EXIT_CODES, Outcome
from registry.mlflow.announced import admits
from registry.mlflow.examine import mlflow_server
from registry.mlflow.inbox import Inbox, acting_as
from registry.mlflow.logins import Login, read_login, verify_login
from registry.mlflow.recorded import CHAMPION, RELEASE, RELEASE_REASON
from registry.release.environments import read_environments

if TYPE_CHECKING:
    from core.project import Project
    from flows.send import Packed
    from registry.mlflow.store import Store

SECONDS_BETWEEN_LOOKS = 1.0
_REASONS = "assay.judge_reasons"
"""On a version's page: what `judge` said of it last, a line for each rule."""
_NOT_PASSED: tuple[Outcome, ...] = ("rejected", "undecided")


class Sent(Value):
    """What became of a version in another installation."""

    model: str
    version: str
    target: str
    version_there: str
    verdict: Outcome
    """`passed`: its release has begun there. Else what `judge` said there."""
    text: str

    @property
    def exit_code(self) -> int:
        """As of every gate: 0 passed, 3 rejected, 4 undecided."""
        return EXIT_CODES[self.verdict]


@dataclass(frozen=True)
class Errand:
    """A version that is to be released elsewhere, and until when that is waited for."""

    model: str
    version: str
    target: str
    reason: str
    seconds: float
    waits: bool
    """Whether to wait for full traffic there, and not only for the answer to the wish."""


def send_version(errand: Errand) -> Sent:
    """Send a version, have it taken in there, and set the wish under the login for that server.

    `ParameterError` without a target, a login or a reason; `ReleaseError` without the role
    release_manager here, where the time is over, or where nobody there is asked before the alias
    moves; `TransferRefused` where either side refuses.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.send import pack_version

    project, order = current_project(), make_order(errand.reason)
    check_may_promote(project, order)
    login = _login_for(project, errand.target)
    until = time.monotonic() + errand.seconds
    delivery = Delivery(
        project,
        errand,
        login,
        until,
    )
    with tempfile.TemporaryDirectory() as scratch:
        # Under this installation's own login: its MLflow is asked for the package.
        packed = pack_version(
            project,
            errand.model,
            errand.version,
            Path(scratch),
        )
        with acting_as(login):
            return delivery.deliver(packed)


def check_admission(errand: Errand, server: str, number: str) -> None:
    """`ReleaseError` where the alias `release` there would move unasked, and answer nothing.

    `OperationError` where the server does not answer.
    """
    other = mlflow_server(server, SECONDS_TO_EXAMINE)
    if admits(other, errand.model):
        return
    # Set there it would look granted, until the controller there puts it back.
    raise ReleaseError(
        f"{errand.target} holds it as version {number}, and its MLflow has no admission for "
        f"{errand.model}, which would answer for its release. Ask there with "
        f"`assay promote {number} --model {errand.model}`."
    )


def check_goes_on(errand: Errand, store: "Store", number: str) -> None:
    """`ReleaseError` where the controller there took the alias `release` from the version."""
    if store.holders(RELEASE).get(errand.model) == number:
        return
    # As after a canary that was aborted: to wait longer would bring nothing.
    raise ReleaseError(
        f"{errand.target} does not release version {number} of {errand.model} any more: it was "
        "stopped or overtaken. Its page there says why; the same command asks once more."
    )


def _login_for(project: "Project", name: str) -> Login:
    target = read_environments(project.root).target(name)
    # Not this installation's: two servers may know the same name as two people.
    login = read_login(project.home, name)
    if login is None:
        raise ParameterError(
            f"Nobody is logged in to {name}. `assay login USER --to {name}` asks for the password "
            "of a release manager there."
        )
    # A login of another address would be shown to whoever is there now.
    if login.server != target.mlflow:
        raise ParameterError(
            f"The login to {name} is for {login.server}, and environments.yaml names "
            f"{target.mlflow}: `assay login --to {name}` again."
        )
    verify_login(login, name)
    return login


@dataclass(frozen=True)
class Delivery:
    """One errand at the other server."""

    project: "Project"
    errand: Errand
    login: Login
    until: float

    def deliver(self, packed: "Packed") -> Sent:
        """Send, wait until it is taken in, and ask for its release."""
        # Of its own: MLflow's ids there say nothing about those here.
        targets = self.project.home / "leases" / "targets"
        locks = targets / self.errand.target
        # Under the user's own name: two people who send do not write each other's runs.
        inbox = Inbox(self.login.server, locks)
        run_id = inbox.send(self.login.user, packed.digest, packed.folder)
        number = self._await_receipt(inbox, run_id)
        from registry.mlflow.store import Store

        store = Store(self.login.server, locks)
        self._check_answer(store, number, packed)
        check_admission(self.errand, self.login.server, number)
        refusal = self._wish(store, number)
        # What serves there already is answered as granted, too.
        verdict: Outcome = "passed"
        text = self._describe(number)
        if refusal:
            verdict, text = self._judged(store, number, refusal)
        elif self.errand.waits:
            self._await_champion(store, number)
        return Sent(
            model=self.errand.model,
            version=packed.version,
            target=self.errand.target,
            version_there=number,
            verdict=verdict,
            text=text,
        )

    def _await_receipt(self, inbox: Inbox, run_id: str) -> str:
        """Its number there, once the controller there took it in."""
        while True:
            answer = inbox.answer(run_id)
            if answer is not None and answer.version is not None:
                return answer.version
            # A refusal is final for these bytes and this ledger: nothing to wait for.
            if answer is not None:
                raise TransferRefused(f"{self.errand.target} refuses it: {answer.text}")
            self._pause(
                f"the controller of {self.errand.target} has not looked at it (run {run_id}): "
                "it has to run, and environments.yaml there has to list this ledger's key"
            )

    def _check_answer(self, store: "Store", number: str, packed: "Packed") -> None:
        """Ask for nothing else than what was sent: others may have written that answer."""
        there = store.get_version(self.errand.model, number)
        if there.package_sha256 != packed.package_sha256:
            raise TransferRefused(
                f"{self.errand.target} answers that it is version {number} there, which is package "
                f"{there.package_sha256[:12]} and not {packed.package_sha256[:12]}: nothing was "
                "asked for. Find out there who wrote the answer on the transfer's run."
            )

    def _wish(self, store: "Store", number: str) -> str:
        """Set the alias `release` there; gives why it was refused, or nothing."""
        model = self.errand.model
        version = store.get_version(model, number)
        # A reason first: admission there takes no wish without one.
        tags = {RELEASE_REASON: self.errand.reason}
        store.annotate(version, tags)
        try:
            store.move_alias(model, RELEASE, number)
        except RegistryError as error:
            return str(error)
        return ""

    def _judged(self, store: "Store", number: str, refusal: str) -> tuple[Outcome, str]:
        """What `judge` said there, and why; `ReleaseError` where something else was in the way."""
        subject = (
            f"{self.errand.target} holds it as version {number} and does not release it"
        )
        for outcome in _NOT_PASSED:
            # The page may hold an earlier verdict: this answer has to be about one.
            if f"is {outcome} by judge" in refusal:
                reasons = self._reasons(store, number)
                return outcome, f"{subject}: it is {outcome} by judge there.\n{reasons}"
        # Such as a role that is missing there, or another release on its way.
        raise ReleaseError(f"{subject}: {refusal}")

    def _reasons(self, store: "Store", number: str) -> str:
        """Every rule that did not pass, from the version's page: an answer of MLflow's is cut."""
        pages = store.pages_with(_REASONS)
        page = f"{self.errand.model} {number}"
        text = pages.get(page, "")
        # As `_annotate_page` of flows/promote.py writes them.
        failed = [line for line in text.splitlines() if not line.startswith("passed: ")]
        return "\n".join(failed)

    def _await_champion(self, store: "Store", number: str) -> None:
        """Return once the alias `champion` there is this version."""
        while True:
            holder = store.holder(self.errand.model, CHAMPION)
            if holder is not None and holder.version == number:
                return
            check_goes_on(self.errand, store, number)
            self._pause(
                f"its release as version {number} goes on in {self.errand.target}, and its page "
                "says how it stands"
            )

    def _describe(self, number: str) -> str:
        model, target = self.errand.model, self.errand.target
        place = f"version {number} of {model} in {target}"
        if self.errand.waits:
            return f"It is {place}, has full traffic, and is champion there."
        return f"It is {place}, and its release has begun there."

    def _pause(self, fact: str) -> None:
        left = self.until - time.monotonic()
        # Asked as what must hold: a time that is no number ends the wait.
        if not left > 0:
            errand = self.errand
            raise ReleaseError(
                f"The time to wait for version {errand.version} of {errand.model} is "
                f"over: {fact}. The same command continues; nothing is sent twice."
            )
        pause = min(left, SECONDS_BETWEEN_LOOKS)
        time.sleep(pause)
