"""Requests to servers of this machine over HTTP, past any proxy that the environment names."""

from email.message import Message
from http.client import HTTPException
from typing import NamedTuple
from urllib.request import ProxyHandler, Request, build_opener

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
    """The answer to a GET, or to a POST of a JSON `body`; None where there is none with 200."""
    # GET has no body, and a server ignores the type of nothing.
    headers = {"Content-Type": "application/json"}
    if authorization:
        headers["Authorization"] = authorization
    request = Request(url, data=body, headers=headers)  # noqa: S310 - an address of this machine
    # An empty table of proxies; None would mean those of the environment.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(request, timeout=seconds) as answer:
            if answer.status != 200:
                return None
            return Answer(answer.headers, answer.read(_LARGEST))
    # Whatever listens there may not speak HTTP at all.
    except (OSError, ValueError, HTTPException):
        return None


def answers(url: str, seconds: float = 2) -> bool:
    """Whether a GET of the address gives 200."""
    answer = ask(url, seconds=seconds)
    return answer is not None
