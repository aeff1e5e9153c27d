"""Sentences about promotions and waivers, for the command line and for the demo."""

from typing import TYPE_CHECKING

from core.console import say
from flows.run.report import say_findings
from operations.orders import current_ledger
from pipelines.values.verdict import EXIT_CODES
from registry.ledger.state import LedgerState
from registry.release.brakes import find_rollback_target

if TYPE_CHECKING:
    from flows.promote import Promotion, Repaired
    from operations.awaiting import Serving
    from operations.waiving import EnteredWaiver


def say_promotion(outcome: "Promotion | Repaired | Serving") -> None:
    """Print the verdict of a promotion and what it released, or which package was repaired."""
    from flows.promote import Repaired
    from operations.awaiting import Serving

    if isinstance(outcome, Serving):
        say(_describe_serving(outcome))
        return
    if isinstance(outcome, Repaired):
        say(_describe_repair(outcome))
        return
    verdict = outcome.verdict
    say_findings(verdict.findings)
    say(f"Verdict of judge: {verdict.verdict.upper()}.")
    if outcome.released is not None:
        fingerprint = outcome.released.release.fingerprint
        ledger_state = current_ledger().state()
        way_back = describe_way_back(outcome.model, ledger_state)
        say(
            f"{outcome.model} is version {outcome.version} now ({fingerprint}).{way_back}"
        )
    # A release that succeeded may still have left something for a person to do.
    if outcome.note:
        say(outcome.note)


def promotion_exit_code(outcome: "Promotion | Repaired | Serving") -> int:
    """Give 0 for a release or a repaired package, 3 for a rejection, 4 for undecided."""
    from flows.promote import Promotion

    if not isinstance(outcome, Promotion):
        return 0
    return EXIT_CODES[outcome.verdict.verdict]


def say_waiver(entered: "EnteredWaiver") -> None:
    """Print which rule is waived, and until when."""
    waiver = entered.waiver
    until = f"{waiver.until:%Y-%m-%d %H:%M %Z}"
    subject = f"{waiver.rule} is waived for {waiver.model}"
    place = f"entry {entered.generation}"
    say(f"{subject} until {until} by {waiver.by} ({place}).")


def describe_way_back(model: str, ledger_state: LedgerState) -> str:
    """Give the command that undoes a release, with a space before it; empty where nothing can."""
    # The first release of a model has nothing before it.
    if find_rollback_target(ledger_state.model(model)) is None:
        return ""
    return f" Back: assay rollback --model {model} --reason …"


def _describe_serving(outcome: "Serving") -> str:
    begun = outcome.released.begun
    return (
        f"Version {outcome.version} of {outcome.model} has full traffic (entry {begun}), "
        "and MLflow's champion is it."
    )


def _describe_repair(outcome: "Repaired") -> str:
    sentence = (
        f"The package of version {outcome.version} of {outcome.model} was damaged "
        "and has been fetched again; nothing else changed."
    )
    if not outcome.aside:
        return sentence
    return f"{sentence} The damaged folder lies in {outcome.aside}: find out who changed it."
