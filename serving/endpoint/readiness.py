"""What `/readyz` says to a load balancer: whether this endpoint answers, and how far it is."""

from collections.abc import Callable
from dataclasses import dataclass

from core.settings import Settings
from pipelines.engines.refusal import Refusal
from registry.ledger.entries import Head
from serving.endpoint.lanes import Lanes
from serving.openai_schema.models import ReadyReport
from serving.whole_number import read_seconds

_SHORTEST, _LONGEST = 5, 120


@dataclass(frozen=True)
class Standing:
    """Where an endpoint stands beside what it has loaded."""

    head: Head | None = None
    # Why clients should be sent to others, though it answers; empty: they should not.
    hindrance: str = ""


@dataclass(frozen=True)
class Readiness:
    """What readiness is decided by."""

    lanes: Lanes
    standing: Callable[[], Standing] = Standing

    def report(self) -> ReadyReport:
        """What answers now; `Refusal` where nothing does, or others should be asked."""
        targets = self.lanes.ready_targets()
        if not targets:
            raise _not_ready_error(_explain_nothing(self.lanes))
        standing = self.standing()
        if standing.hindrance:
            raise _not_ready_error(standing.hindrance)
        fingerprints = {
            name: target.spec.fingerprint for name, target in targets.items()
        }
        generation = None if standing.head is None else standing.head.generation
        engines = {
            name: target.computed_spec.engine for name, target in targets.items()
        }
        return ReadyReport(
            generation=generation, fingerprints=fingerprints, engines=engines
        )


def seconds_ready_alone(settings: Settings) -> int:
    """`ASSAY_UNREADY_AFTER`, 0 for ever; `ServingError` where it is out of bounds.

    A release waits for a replica that clients may still be sent to, and not longer than engines
    may take to load.
    """
    text = settings.unready_after
    return read_seconds("ASSAY_UNREADY_AFTER", text, _SHORTEST, _LONGEST)


def describe_solitude(seconds_alone: float, limit: int) -> str:
    """Why an endpoint that hears nothing of the ledger says no; empty where it need not."""
    if limit == 0 or seconds_alone <= limit:
        return ""
    return (
        f"For over {limit} s nothing is known of the ledger, so another release may be due. "
        "Requests are answered as before; look at its database."
    )


def _explain_nothing(lanes: Lanes) -> str:
    if not lanes.table:
        return "Nothing is released yet. `assay promote` releases a version."
    names = ", ".join(lanes.table)
    return f"No engine of {names} answers yet. `assay status` says why."


def _not_ready_error(sentence: str) -> Refusal:
    return Refusal(sentence, status=503, kind="server_error", code="not_ready")
