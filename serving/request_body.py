"""The body of a request and its model's name, read before anything is done for it."""

import asyncio
import codecs
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from pipelines.engines.refusal import Refusal
from serving.openai_schema.fields import MAX_BODY_BYTES, MODEL_NAME

_JSON = re.compile(r"application/([a-z0-9!#$&^_.-]+\+)?json")
_SECONDS_FOR_A_BODY = 20.0


def check_name(name: str) -> None:
    """Return only if this may be a model's name: a `Refusal` otherwise.

    A name is looked up among those that are served, and never used as a path.
    """
    if not MODEL_NAME.fullmatch(name):
        raise Refusal(
            "model is the name of a served model, not a path. GET /v1/models lists them.",
            code="invalid_model",
            param="model",
        )


async def read_body(request: Request) -> bytes:
    """The request's body, which says that it is JSON.

    `Refusal` where it is of another type, too large, compressed, or not there in time.
    """
    _check_headers(request.headers)
    try:
        async with asyncio.timeout(_SECONDS_FOR_A_BODY):
            body = await _read_up_to_limit(request)
    except TimeoutError:
        raise Refusal(
            f"The body did not arrive within {_SECONDS_FOR_A_BODY:.0f} s. Send it again.",
            status=408,
            code="timeout",
        ) from None
    except ClientDisconnect:
        raise Refusal(
            "The client left in the middle of its request.",
            # Nobody reads it: the number is for counts, and is the one that nginx uses.
            status=499,
            code="client_left",
        ) from None
    if body.startswith(codecs.BOM_UTF8):
        raise Refusal(
            "The body begins with a byte order mark, which JSON does not have. "
            "Send it in UTF-8 without one."
        )
    return body


async def _read_up_to_limit(request: Request) -> bytes:
    # Chunk by chunk: a body that declares no length may be of any.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _too_large_error()
    return bytes(body)


def _check_headers(headers: Headers) -> None:
    """Refuse what the headers alone show to be wrong, before any of the body is read."""
    _check_type(headers.getlist("content-type"))
    declared = headers.get("content-length", "0")
    # Python refuses to parse numbers of thousands of digits; twenty are over the limit already.
    if declared.isdecimal() and int(declared[:20]) > MAX_BODY_BYTES:
        raise _too_large_error()
    encoding = headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(
            f"The body is compressed ({encoding[:40]!r}), which is not read here. "
            "Send it without Content-Encoding.",
            status=415,
        )


def _check_type(types: Sequence[str]) -> None:
    """Another page in somebody's browser may send any other type here without asking first."""
    if len(types) == 1:
        media_type = types[0].partition(";")[0]
        if _JSON.fullmatch(media_type.strip().lower()):
            return
    declared = repr(types[0][:60]) if types else "nothing"
    raise Refusal(
        f"The body is JSON, and its Content-Type says {declared}. "
        "Send `Content-Type: application/json` (curl: -H).",
        status=415,
        code="unsupported_media_type",
    )


def _too_large_error() -> Refusal:
    return Refusal(
        f"The body is over {MAX_BODY_BYTES} bytes. Send a shorter conversation.",
        status=413,
        code="request_too_large",
    )
