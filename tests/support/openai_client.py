"""OpenAI's own client, as the tests use it."""

from openai import OpenAI

from tests.support.waiting import SECONDS_AT_MOST

# A client is part of a cycle, so only the garbage collector ends it. A connection that it kept
# open may be finalized before it, and then Python warns of a socket that nobody closed.
_KEEPS_NO_CONNECTION = {"Connection": "close"}


def openai_client(url: str) -> OpenAI:
    """A client of the API at `url`, which ends in `/v1`. It tries once and needs no closing."""
    return OpenAI(
        base_url=url,
        api_key="none",
        max_retries=0,
        timeout=SECONDS_AT_MOST,
        default_headers=_KEEPS_NO_CONNECTION,
    )
