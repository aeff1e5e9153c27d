"""A real ledger beside an endpoint that is what a test says."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.values.serving_spec import ServingSpec
from registry.ledger.entries import (
    Body,
    Head,
    Judged,
    Release,
    ReleaseBegun,
    ReleaseCompleted,
    ReleaseSwitched,
)
from registry.ledger.ledger import Ledger
from registry.ledger.state import LedgerState
from registry.release.context import ChangeRequest, Patience, ReleaseContext
from registry.release.following import EndpointState, EngineState, Route
from registry.release.release import Stall, next_entry

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


@dataclass
class Bench:
    """A real ledger, and an endpoint that is what a test says: the state machine knows of it no more than these values."""

    ledger: Ledger
    engines: dict[int, EngineState] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)
    head: Head | None = None
    obeys: bool = False
    """What answers is what the ledger says, as where an endpoint has everything loaded."""
    on_ring: Callable[["Bench"], None] = lambda _: None

    def ring(self) -> EndpointState:
        self.on_ring(self)
        return self.state()

    def state(self) -> EndpointState:
        head = self.head or self.ledger.state().head
        return EndpointState(
            head=head,
            engines=tuple(self.engines.values()),
            routes=self._obeyed() if self.obeys else self.routes,
        )

    def _obeyed(self) -> dict[str, Route]:
        model = self.ledger.state().model(MODEL)
        held = model.once_served[-1] if model.once_served else None
        current = model.current or held
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
            Patience(to_load=0.3, to_switch=0.3, to_brake=0.1, between_looks=0.01),
        )

    def judged(self, version: str, verdict: str = "passed") -> int:
        body = Judged.model_validate(
            {
                "model": MODEL,
                "version": version,
                "package_sha256": version * 64,
                "verdict": verdict,
                "verdict_sha256": "d" * 64,
                "policy_sha256": "e" * 64,
            }
        )
        return self.write(body).head.generation

    def begin(self, version: str) -> int:
        release = Release(
            model=MODEL,
            version=version,
            package_sha256=version * 64,
            spec=spec(version),
            known_answers_share=1.0,
        )
        why = self.ledger.remember(WHY.reason)
        return self.write(
            ReleaseBegun(
                release=release,
                judged=self.judged(version),
                by=WHY.by,
                reason_sha256=why,
            )
        ).head.generation

    def released(self, version: str) -> int:
        begun = self.begin(version)
        self.write(ReleaseSwitched(begun=begun))
        self.write(ReleaseCompleted(begun=begun))
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

    def here(self) -> tuple[str | None, bool]:
        model = self.ledger.state().model(MODEL)
        return (
            None if model.current is None else model.current.release.version
        ), model.serves_base

    @property
    def kinds(self) -> list[str]:
        return [entry.body.kind for entry in self.ledger.entries()]
