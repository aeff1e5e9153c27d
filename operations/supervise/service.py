"""What a supervisor needs to know of one service."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Service:
    """One service. It is ready when its address answers 200, when it shows up where it works, or when its log says `Ready:`.

    One that does not last is done when it has ended with 0.
    """

    name: str
    command: tuple[str, ...]
    environment: Callable[[], dict[str, str]]
    after: tuple[str, ...] = ()
    port: int | None = None
    health: str | None = None
    shows_up: Callable[[datetime], bool] | None = None
    link: str | None = None
    lasts: bool = True
    seconds_to_stop: float = 15
    is_given_its_socket: bool = False
    """It listens on a socket that stays open while it is started again (`--listen-on`): who connects meanwhile waits."""
