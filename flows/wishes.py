"""WISHES: what the controller does where a release manager set the alias `release`.

    Wished ─judge─ Candidate ─ Release          a version that never served
           ─ RolledBack                         one that served before: nothing is judged again
           ─ WishClosed, with every reason      whatever keeps it from being released

The ledger holds the wish and its answer. Whoever was killed in between leaves an open wish, which
the next round answers.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from core.project import Project
from flows.admission_there import may_ask_unknown
from flows.promote import Begun, Promotion, begin_promotion
from flows.release_wait import drive_as_far_as_it_goes, is_on_its_way
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState, RecordedWish
from registry.release.context import ChangeRequest, Patience, ReleaseContext
from registry.release.granting import Answered, answer, grant
from registry.release.people import FILE, read_people
from registry.release.release import find_outcome
from registry.release.wishing import WishDesk, is_of_nobody_known
from serving.replicated import following_endpoint

_LONGEST_REASON = 2000
SECONDS_TO_ANSWER = 60.0
"""For other releases; judging itself may take longer, while MLflow's server waits."""
LONGEST_OPEN = timedelta(seconds=WishDesk.longest)
"""A wish that is older was taken back, or its taker is gone: it is not granted later, unseen."""
_UNKNOWN = "no reason is on record"


def answer_wish(
    project: Project, model: str, wish: RecordedWish, ledger: Ledger
) -> Answered:
    """Answer an open wish.

    `ledger` is the controller's own: what it verified before is not verified again, while people
    wait. `LedgerError` where the answer cannot be entered: the wish stays open.
    """
    until = time.monotonic() + SECONDS_TO_ANSWER
    endpoint = following_endpoint(project.home)
    context = ReleaseContext(ledger, endpoint, Patience(until=until))

    def try_to_grant() -> str:
        return _try_to_grant(project, model, wish, context)

    return answer(model, wish, ledger, try_to_grant)


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

    def release(order: ChangeRequest) -> str:
        return _release(
            project,
            model,
            wish,
            order,
            context,
        )

    return grant(
        model,
        wish,
        order,
        context,
        release,
    )


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
        # MLflow's host may have another copy of that file, in which they are one.
        return f"{wish.by} is no release manager in the controller's {FILE}"
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
        patient = replace(context, patience=Patience())
        # As far as it goes now: a canary may take days, in which other wishes must not wait.
        drive_as_far_as_it_goes(project.home, model, patient)
        if not is_on_its_way(context.ledger, model, outcome.generation):
            find_outcome(context.ledger, model, outcome.generation)
        return ""
    # None is released where `judge` did not pass it.
    if isinstance(outcome, Promotion) and outcome.released is None:
        return _describe_verdict(outcome)
    return ""


def _describe_verdict(outcome: Promotion) -> str:
    judged = outcome.verdict
    verdict = judged.verdict
    reasons = [
        finding.text for finding in judged.findings if finding.outcome != "passed"
    ]
    reason = ". ".join(reasons)
    subject = f"Version {outcome.version} of {outcome.model}"
    # A dialog and an entry's reason are read by people: the rest is on the version's page.
    text = f"{subject} is {verdict} by judge. {reason}"
    return text[:_LONGEST_REASON]
