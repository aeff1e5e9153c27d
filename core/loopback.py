"""Requests to servers of this machine over HTTP, past any proxy that the environment names."""

import ssl
from email.message import Message
from http.client import HTTPException
from typing import NamedTuple
from urllib.request import (
    BaseHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
    build_opener,
)

LOOPBACK = "127.0.0.1"

_LARGEST = 1_000_000  # bytes that are read of an answer


class Answer(NamedTuple):
    """An HTTP answer with status 200."""

    headers: Message
    body: bytes


def ask(
    url: str,
    *,
    seconds: float = 2,
    body: bytes | None = None,
    authorization: str | None = None,
) -> Answer | None:
    """The answer to a GET, or to a POST of a JSON `body`; None where there is none with 200.

    Over TLS no certificate is looked at, unless a login is sent: it is for the name by which others
    call the server, which is none of this machine's own.
    """
    # GET has no body, and a server ignores the type of nothing.
    headers = {"Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    request = Request(url, data=body, headers=headers)  # noqa: S310 - an address of this machine
    # An empty table of proxies; None would mean those of the environment.
    handlers: list[BaseHandler] = [ProxyHandler({})]
    if url.startswith("https:") and authorization is None:
        handlers.append(HTTPSHandler(context=_any_certificate()))
    opener = build_opener(*handlers)
    try:
        with opener.open(request, timeout=seconds) as answer:
            if answer.status != 200:
                return None
            return Answer(answer.headers, answer.read(_LARGEST))
    # Whatever listens there may not speak HTTP at all.
    except (OSError, ValueError, HTTPException):
        return None


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def answers(url: str, seconds: float = 2) -> bool:
    """Whether a GET of the address gives 200."""
    answer = ask(url, seconds=seconds)
    return answer is not None
