"""What the endpoint says of itself at the moment in which somebody asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Role = Literal["release", "baseline", "base"]


@dataclass(frozen=True)
class EngineFigures:
    """One engine that is loaded or being loaded."""

    model: str
    release: str
    role: Role
    is_ready: bool
    # Whether it was unloaded since nobody asked, and answers once it is loaded again.
    is_asleep: bool
    # Requests that it is answering.
    requests: int
    # How often its process ended without being told to.
    ends: int
    # Of its process; 0 while there is none that answers.
    pid: int
    # Whether releases of other models may be in that process.
    shares_process: bool = False
    # What computes its answers; empty while nothing does.
    engine: str = ""


@dataclass(frozen=True)
class Share:
    """Percent of a model's requests that a release gets."""

    model: str
    release: str
    percent: float


@dataclass(frozen=True)
class Figures:
    """Everything that is no count of requests."""

    engines: tuple[EngineFigures, ...] = ()
    shares: tuple[Share, ...] = ()
    # Of the last entry of the ledger that was followed; 0 before the first.
    generation: int = 0
    alarms: int = 0


def _none() -> Figures:
    return Figures()


def _is_not_released(_: str) -> bool:
    return False


@dataclass(frozen=True)
class Source:
    """How what the endpoint says of itself is asked for. By itself: of one that has nothing."""

    figures: Callable[[], Figures] = _none
    # Whether a name answers, bases included. No other name becomes a label.
    is_released: Callable[[str], bool] = _is_not_released
