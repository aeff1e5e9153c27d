"""What a supervisor needs to know of one service."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from socket import socket


@dataclass(frozen=True)
class Service:
    """One service: its command, its environment, its place among others, and its sign of readiness.

    It is ready when `health` answers 200. One without an address is ready when `shows_up` is
    true, and one with neither when its log says `Ready:`. A service that does not last is done
    when it has ended with 0.
    """

    name: str
    command: tuple[str, ...]
    environment: Callable[[], dict[str, str]]
    """Called at each start: a password may exist only once another service is ready."""
    after: tuple[str, ...] = ()
    """Names of the services that are ready or done before this one starts."""
    port: int | None = None
    health: str | None = None
    shows_up: Callable[[datetime], bool] | None = None
    """Whether the service has been seen at work since that time."""
    link: str | None = None
    lasts: bool = True
    seconds_to_stop: float = 15
    open_socket: "Callable[[], socket] | None" = None
    """Opens the socket that the service listens on (`--listen-on NUMBER`).

    The socket stays open while the service is restarted, so clients that connect in between wait.
    """
