"""A real ledger beside an endpoint that is what a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipelines.values.canary import CanaryPlan
from pipelines.values.serving_spec import ServingSpec
from registry.ledger.entries import Body, Head, Release
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.canary_counts import CanaryReport
from registry.release.context import ChangeRequest, Patience, ReleaseContext
from registry.release.following import ALL, EndpointState, EngineState, Route
from registry.release.release import Stall, next_entry
from tests.support.ledgers import (
    begin_release,
    complete_release,
    judgement_of,
    write,
)

MODEL = "letters-tiny"
WHY = ChangeRequest("ann", "because")


def spec(version: str) -> ServingSpec:
    return ServingSpec(
        base_digest="b" * 64,
        adapter_sha256=version * 64,
        chat_template_sha256="c" * 64,
        engine="transformers",
        engine_version="5",
        precision="float32",
        default_max_tokens=24,
    )


def release_of(version: str) -> Release:
    return Release(
        model=MODEL,
        version=version,
        package_sha256=version * 64,
        spec=spec(version),
        known_answers_share=1.0,
    )


@dataclass
class Bench:
    """A real ledger, and an endpoint that is what a test says.

    The state machine knows of it no more than these values.
    """

    ledger: Ledger
    engines: dict[int, EngineState] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    canaries: tuple[CanaryReport, ...] = ()
    now: datetime = datetime(2026, 11, 26, 12, tzinfo=UTC)
    """A Thursday; change windows ask for it."""
    head: Head | None = None
    obeys: bool = False
    """What answers is what the ledger says, as where an endpoint has everything loaded."""
    on_ring: Callable[["Bench"], None] = lambda _: None

    def ring(self, quorum: int = ALL) -> EndpointState:
        self.on_ring(self)
        return self.state()

    def state(self) -> EndpointState:
        head = self.head or self.ledger.state().head
        return EndpointState(
            head=head,
            engines=tuple(self.engines.values()),
            canaries=self.canaries,
            routes=self._obeyed() if self.obeys else self.routes,
        )

    def _obeyed(self) -> dict[str, Route]:
        model = self.ledger.state().model(MODEL)
        last_served = model.once_served[-1] if model.once_served else None
        current = model.current or last_served
        if current is None:
            return {}
        return {
            MODEL: Route(
                begun=current.begun,
                serves_base=model.serves_base,
                fingerprint=current.release.fingerprint,
            )
        }

    @property
    def context(self) -> ReleaseContext:
        return ReleaseContext(
            self.ledger,
            self,
            Patience(
                to_load=0.3,
                to_switch=0.3,
                to_brake=0.1,
                to_brake_several=0.1,
                between_looks=0.01,
            ),
            now=lambda: self.now,
        )

    def judge(self, version: str, verdict: str = "passed") -> int:
        return write(self.ledger, judgement_of(release_of(version), verdict))

    def begin(
        self, version: str, canary: CanaryPlan | None = None, quorum: int = ALL
    ) -> int:
        reason = self.ledger.remember(WHY.reason)
        more = {"canary": canary, "replica_quorum": quorum}
        release = release_of(version).model_copy(update=more)
        return begin_release(self.ledger, release, WHY.by, reason)

    def release(self, version: str) -> int:
        """Begin, switch and complete; gives the generation at which it began."""
        begun = self.begin(version)
        complete_release(self.ledger, begun)
        return begun

    def write(self, body: Body) -> LedgerState:
        return self.ledger.append(body, self.ledger.state())

    def answers(self, begun: int) -> None:
        self.engines[begun] = EngineState(begun=begun, state="ready")
        self.routes[MODEL] = Route(begun=begun, serves_base=False, fingerprint="fp")

    def next(self, seconds: float = 0.0) -> Body | None:
        return next_entry(
            self.ledger.state(), MODEL, self.state(), Stall(seconds, self.context)
        )

    def traffic(self) -> tuple[str | None, bool]:
        """The version that has the traffic, and whether the base answers in its place."""
        model = self.ledger.state().model(MODEL)
        version = None if model.current is None else model.current.release.version
        return version, model.serves_base

    @property
    def kinds(self) -> list[str]:
        return [entry.body.kind for entry in self.ledger.entries()]
