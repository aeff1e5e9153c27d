"""Asking a server of this machine over HTTP, whatever proxy the environment names."""

from email.message import Message
from http.client import HTTPException
from typing import NamedTuple
from urllib.request import ProxyHandler, Request, build_opener

HERE = "127.0.0.1"

_LARGEST = 1_000_000


class Answer(NamedTuple):
    """What it said with its 200."""

    headers: Message
    body: bytes


def ask(
    url: str,
    *,
    seconds: float = 2,
    body: bytes | None = None,
    authorization: str | None = None,
) -> Answer | None:
    """The answer to a GET, or to a POST of that JSON; None where there is none with 200."""
    headers = {
        "Content-Type": "application/json",
        **({"Authorization": authorization} if authorization else {}),
    }
    request = Request(url, data=body, headers=headers)  # noqa: S310 - an address of this machine
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=seconds) as answer:
            return (
                Answer(answer.headers, answer.read(_LARGEST))
                if answer.status == 200
                else None
            )
    except (
        OSError,
        ValueError,
        HTTPException,
    ):  # whatever listens there may speak no HTTP at all
        return None


def answers(url: str, seconds: float = 2) -> bool:
    """Whether a GET of it gives 200."""
    return ask(url, seconds=seconds) is not None
