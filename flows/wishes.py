"""WISHES: what the controller does where a release manager set the alias `release`.

    Wished ─judge─ Candidate ─ Release          a version that never served
           ─ RolledBack                         one that served before: nothing is judged again
           ─ WishClosed, with every reason      whatever keeps it from being released

The ledger holds the wish and its answer. Whoever was killed in between leaves an open wish, which
the next round answers.
"""

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from core.errors import AssayError, IllegalEntry
from core.project import Project
from flows.admission_there import may_ask_unknown
from flows.alias_wishes import is_of_nobody_known
from flows.promote import Begun, Promotion, begin_promotion, open_release_context
from flows.release_wait import drive_as_far_as_it_goes, is_on_its_way
from registry.ledger.entries import WishClosed
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, ModelState, RecordedWish
from registry.release.brakes import roll_back
from registry.release.context import ChangeRequest, ReleaseContext, append
from registry.release.people import read_people
from registry.release.release import find_outcome
from registry.release.wishing import find_answer, is_of

_LONGEST_REASON = 2000
SECONDS_TO_ANSWER = 60.0
"""As long as MLflow's server waits."""
LONGEST_OPEN = timedelta(seconds=120)
"""A wish that is older was taken back, or its taker is gone: it is not granted later, unseen."""
_UNKNOWN = "no reason is on record"


class Answered(NamedTuple):
    """What became of a wish, as a sentence."""

    sentence: str
    has_failed: bool = False
    """It was granted and came to nothing: who asked has been told otherwise."""


def answer_wish(project: Project, model: str, wish: RecordedWish) -> Answered:
    """Answer an open wish.

    `LedgerError` where the answer cannot be entered: the wish stays open.
    """
    until = time.monotonic() + SECONDS_TO_ANSWER
    context = open_release_context(project.home, until)
    try:
        obstacle = _try_to_grant(project, model, wish, context)
    # Told to the person: what is in the way now may be gone at the next wish.
    except AssayError as error:
        obstacle = str(error)
    except Exception as error:  # noqa: BLE001 - an open wish would be tried again in every round
        obstacle = f"it cannot be judged ({type(error).__name__}: {str(error)[:200]})"
    # As a line of the log and a notice to people.
    name = f"the wish of {wish.by} for {model} version {wish.version}"
    if not obstacle:
        return Answered(f"Granted: {name}.")
    _close(context.ledger, wish, obstacle)
    answer = find_answer(context.ledger, wish.generation)
    # A release that began and failed later is the answer, too.
    if answer is not None and answer.is_granted:
        sentence = f"Granted: {name}. {obstacle}"
        return Answered(sentence, has_failed=True)
    return Answered(f"Refused: {name}: {obstacle}")


def _try_to_grant(
    project: Project, model: str, wish: RecordedWish, context: ReleaseContext
) -> str:
    """Release the version or go back to it; gives what keeps it from that, or nothing."""
    ledger_state = context.ledger.state()
    objection = _find_objection(project, wish, ledger_state)
    if objection:
        return objection
    order = ChangeRequest(
        by=wish.by,
        reason=context.ledger.recall(wish.reason_sha256) or _UNKNOWN,
        account=wish.account,
        wished=wish.generation,
    )
    model_state = ledger_state.model(model)
    if not _served_before(model_state, wish):
        return _release(project, model, wish, order, context)
    if _only_serves(model_state, wish):
        return f"Version {wish.version} of {model} serves already"
    roll_back(model, wish.version, order, context)
    return ""


def _find_objection(
    project: Project, wish: RecordedWish, ledger_state: LedgerState
) -> str:
    """Why a wish is not even looked at; empty where it is."""
    age = datetime.now(UTC) - wish.at
    # Who asked has been told that nobody answered, or went away with MLflow's server.
    if age > LONGEST_OPEN:
        seconds = age.total_seconds()
        return f"it was asked {seconds:.0f} s ago, and nobody waits for it any more"
    if is_of_nobody_known(wish, ledger_state) and may_ask_unknown(project):
        return ""
    people = read_people(project.root)
    # Asked here too: the entry says who wished, and a stolen key can say anything.
    if not people.has_role(wish.by, wish.account, "release_manager"):
        return f"{wish.by} is no release manager of this project"
    return ""


def _release(
    project: Project,
    model: str,
    wish: RecordedWish,
    order: ChangeRequest,
    context: ReleaseContext,
) -> str:
    outcome = begin_promotion(project, model, wish.version, order, context)
    if isinstance(outcome, Begun):
        # Whoever asked is answered by now: from here on an engine may take its time to load.
        patient = open_release_context(project.home)
        # As far as it goes now: a canary may take days, in which other wishes must not wait.
        drive_as_far_as_it_goes(project.home, model, patient)
        if not is_on_its_way(context.ledger, model, outcome.generation):
            find_outcome(context.ledger, model, outcome.generation)
        return ""
    # None is released where `judge` did not pass it.
    if isinstance(outcome, Promotion) and outcome.released is None:
        return _describe_verdict(outcome)
    return ""


def goes_back(model_state: ModelState) -> bool:
    """Whether the open wish is for a version that served before, so that nothing is judged."""
    wish = model_state.wish
    return wish is not None and _served_before(model_state, wish)


def _served_before(model_state: ModelState, wish: RecordedWish) -> bool:
    matching = [
        recorded
        for recorded in model_state.once_served
        if is_of(recorded, wish.version, wish.package_sha256)
    ]
    return bool(matching)


def _only_serves(model_state: ModelState, wish: RecordedWish) -> bool:
    """Whether it has full traffic, and nothing is on its way that could be stopped."""
    answering = model_state.answering
    if answering is None or model_state.pending is not None:
        return False
    return is_of(answering, wish.version, wish.package_sha256)


def _describe_verdict(outcome: Promotion) -> str:
    reasons = [
        finding.text
        for finding in outcome.verdict.findings
        if finding.outcome != "passed"
    ]
    reason = ". ".join(reasons)
    answer = outcome.verdict.verdict
    subject = f"Version {outcome.version} of {outcome.model}"
    # A dialog and an entry's reason are read by people: the rest is on the version's page.
    text = f"{subject} is {answer} by judge. {reason}"
    return text[:_LONGEST_REASON]


def _close(ledger: Ledger, wish: RecordedWish, obstacle: str) -> None:
    # The text is kept first: no entry may refer to a reason that is nowhere.
    reason_sha256 = ledger.remember(obstacle)
    closed = WishClosed(wished=wish.generation, reason_sha256=reason_sha256)
    # Answered, superseded or taken back meanwhile.
    with suppress(IllegalEntry):
        append(ledger, lambda _: closed)
