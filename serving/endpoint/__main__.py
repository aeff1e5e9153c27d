"""The endpoint that follows releases: `python -m serving.endpoint --home DIR`."""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.errors import ServingError
from core.home import make_home
from core.lifetime import end_with_the_run
from core.locks import endpoint_lock, exclusive
from core.log import exit_code
from core.logs import keep_secrets_out_of_logs
from core.settings import Settings
from serving.endpoint.idleness import seconds_until_unloaded
from serving.endpoint.limits import Limits
from serving.endpoint.readiness import seconds_ready_alone
from serving.garbage import without_search
from serving.listen import open_socket


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer until SIGTERM or Ctrl-C: exit code 0 then, 1 after an error."""
    return exit_code(lambda: run(arguments))


def run(arguments: Sequence[str] | None = None) -> None:
    """Answer until SIGTERM or Ctrl-C, with errors for the caller."""
    # Weights come from a folder: there is no reason to ask the network.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    keep_secrets_out_of_logs()
    options = _parser().parse_args(arguments)
    end_with_the_run()
    home = options.home.resolve()
    with only_one(home), _open_listener(options) as listener:
        with without_search():
            from serving.endpoint.endpoint import Endpoint

        async def serve() -> None:
            # Inside the event loop: engines and their tasks belong to it.
            endpoint = Endpoint(home, _limits(options))
            await endpoint.serve(listener)

        asyncio.run(serve())


def _open_listener(options: argparse.Namespace) -> socket.socket:
    """A socket of its own, or the one that the process that started this one holds open."""
    if options.listen_on is None:
        return open_socket(options.host, options.port)
    try:
        return socket.socket(fileno=options.listen_on)
    except OSError as error:
        raise ServingError(
            f"--listen-on {options.listen_on} is no socket ({error.strerror}). "
            "Leave it out."
        ) from error


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of a home's endpoint: two would overwrite each other's memory.

    `ServingError` where another endpoint holds it, or where the folder is not writable.
    """
    path = endpoint_lock(home)

    def busy() -> ServingError:
        return ServingError(
            f"An endpoint of {home} runs already. "
            "`assay status` shows it; end it first, or take another home."
        )

    try:
        make_home(home)
        with exclusive(path, wait=0, busy=busy):
            yield
    except OSError as error:
        raise ServingError(
            f"The endpoint cannot keep its memory in {path.parent} ({error.strerror}). "
            "Make that folder writable."
        ) from error


def _seconds_until_unloaded(options: argparse.Namespace, settings: Settings) -> float:
    if options.seconds_until_unloaded is None:
        return seconds_until_unloaded(settings)
    return float(options.seconds_until_unloaded)


def _limits(options: argparse.Namespace) -> Limits:
    settings = Settings()
    return Limits(
        seconds_to_load=options.seconds_to_load,
        seconds_to_drain=options.seconds_to_drain,
        seconds_between_looks=options.seconds_between_looks,
        seconds_without_an_endpoint=options.seconds_without_an_endpoint,
        seconds_ready_alone=seconds_ready_alone(settings),
        seconds_until_unloaded=_seconds_until_unloaded(options, settings),
    )


def _parser() -> argparse.ArgumentParser:
    defaults = Limits()
    parser = argparse.ArgumentParser(
        prog="python -m serving.endpoint",
        description="Serve what the ledger says is released.",
    )
    parser.add_argument(
        "--home",
        type=Path,
        default=Settings().home,
        help="where Assay keeps ledger, packages and base models",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="0 takes a free one and prints it"
    )
    parser.add_argument(
        "--listen-on",
        type=int,
        metavar="NUMBER",
        help="of an open socket, instead of --host and --port",
    )
    parser.add_argument(
        "--seconds-to-load",
        type=float,
        default=defaults.seconds_to_load,
        help="after that a release that is not ready has failed",
    )
    parser.add_argument(
        "--seconds-to-drain",
        type=float,
        default=defaults.seconds_to_drain,
        help="for the last answers of an engine that is let go",
    )
    parser.add_argument(
        "--seconds-between-looks",
        type=float,
        default=defaults.seconds_between_looks,
        help="at the ledger, when nobody rings",
    )
    parser.add_argument(
        "--seconds-until-unloaded",
        type=float,
        help="without a request (default: ASSAY_UNLOAD_AFTER)",
    )
    parser.add_argument(
        "--seconds-without-an-endpoint",
        type=float,
        default=defaults.seconds_without_an_endpoint,
        help="for which an engine outlives an endpoint that is killed",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
