"""What an endpoint tells a process of several releases: which to load, and which to forget."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from core.errors import ServingError
from serving.endpoint.engine_record import EngineContents, release_path
from serving.endpoint.upstream import EngineAddress, EngineLost, EngineRequest, exchange

_SECONDS_TO_DETACH = 10.0
_REFUSED = 409
_NOT_NOW = 503
# It has that release still, of which an endpoint that was killed wanted to be rid.
_STILL_THERE = "release_exists"


class Refused(ServingError):
    """A release that cannot be served beside others; the message says why."""


class NotNow(ServingError):
    """A release that cannot come beside others at this moment; the message says why."""


@dataclass(frozen=True)
class Attachment:
    """A release that a process is to load beside those that it has."""

    contents: EngineContents
    # Of its package.
    folder: Path


async def attach(process: EngineAddress, attachment: Attachment) -> None:
    """Have it loaded.

    `Refused` where it cannot be beside others, `NotNow` where it cannot at this moment,
    `EngineLost` where the process ends.
    """
    contents = attachment.contents
    fields = {
        "package": str(attachment.folder.resolve()),
        "model_name": contents.model,
        "default_max_tokens": contents.spec.default_max_tokens,
    }
    path = release_path(contents.package_sha256)
    content = json.dumps(fields)
    request = EngineRequest("PUT", path, content.encode())
    async with exchange(process, request) as reply:
        body = await reply.read_body()
    status = reply.status
    if _is_success(status):
        return
    said = _said(body, "message")
    # Whoever hears that has it forgotten, and may come again.
    is_left = _said(body, "code") == _STILL_THERE
    if status == _NOT_NOW or is_left:
        raise NotNow(said)
    if status == _REFUSED:
        raise Refused(said)
    raise ServingError(f"its process answered {status}: {said}")


async def detach(process: EngineAddress, package_sha256: str) -> bool:
    """Have it forgotten, with the answers that it still gives; whether that was done."""
    request = EngineRequest("DELETE", release_path(package_sha256))
    try:
        async with (
            asyncio.timeout(_SECONDS_TO_DETACH),
            exchange(process, request) as reply,
        ):
            # 404: it was never loaded.
            return _is_success(reply.status) or reply.status == 404
    except (EngineLost, TimeoutError):
        return False


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _said(body: bytes, field: str) -> str:
    """A field of an error in OpenAI's form; the beginning of what it is otherwise."""
    try:
        error = json.loads(body)["error"]
        said = error[field]
    except (ValueError, TypeError, KeyError):
        said = body.decode(errors="replace")
    return str(said)[:500]
