"""The page on which people try what is served: `python -m serving.playground --endpoint URL`."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import ServingError
from core.lifetime import end_with_the_run
from core.log import exit_code, say
from core.logs import keep_secrets_out_of_logs
from core.ready import ready_line
from serving.listen import format_url, is_local, open_socket
from serving.playground.address import publish_address, withdraw_address
from serving.playground.api import LOOPBACK, EndpointApi, KeyNeeded, Visitor
from serving.playground.server import serve_page


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the page until SIGTERM or Ctrl-C: exit code 0 then, 1 after an error."""
    return exit_code(lambda: run(arguments))


def run(arguments: Sequence[str] | None = None) -> None:
    """Show the page until SIGTERM or Ctrl-C, with errors for the caller."""
    keep_secrets_out_of_logs()
    options = _parser().parse_args(arguments)
    # `assay up` that was killed must leave no page behind.
    end_with_the_run()
    is_open = options.host not in LOOPBACK
    if is_open:
        asyncio.run(check_keys(options.endpoint))
    with open_socket(options.host, options.port) as listener:
        # Imported here: nicegui takes a second, and a taken port is said before that.
        from serving.playground.page import create_page_app

        app = create_page_app(options.endpoint, needs_key=is_open)
        url = format_url(listener)
        port = listener.getsockname()[1]
        publish_address(
            options.home,
            port,
            is_local=is_local(listener),
        )
        try:
            line = ready_line(f"the playground of {options.endpoint}", url)
            serve_page(app, listener, lambda: say(line, sys.stdout))
        finally:
            withdraw_address(options.home)


async def check_keys(endpoint: str) -> None:
    """Return only if the endpoint answers nobody without an API key: `ServingError` otherwise.

    The page stands on this machine, whose requests the endpoint trusts: without keys, whoever
    reaches the page could use it.
    """
    api = EndpointApi(endpoint)
    # Nobody's address and no key: what anybody would get.
    anybody = Visitor(address="")
    try:
        await api.models(anybody)
    except KeyNeeded:
        return
    finally:
        await api.aclose()
    raise ServingError(
        f"The endpoint {endpoint} asks for no API key, so everybody who reaches this page "
        "could use it. Listen on 127.0.0.1, or give the endpoint keys first."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.playground",
        description="A page to try what an endpoint serves.",
    )
    parser.add_argument(
        "--endpoint",
        default="http://127.0.0.1:8080/v1",
        help="OpenAI-compatible address that is asked",
    )
    parser.add_argument(
        "--home",
        type=Path,
        required=True,
        help="whose endpoint leads to the page from its own /",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: this machine only)",
    )
    parser.add_argument(
        "--port", type=int, default=8081, help="0 takes a free one and prints it"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
