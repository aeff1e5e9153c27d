"""The endpoint as the page asks it: models, answers that arrive piece by piece, and ratings."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from core.errors import ServingError
from pipelines.values.dataset import Message

# Anything else cannot be sent in a header.
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
# Between two pieces of an answer: a queue may be long, and an endpoint that hangs is not.
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
_UNAUTHORIZED = 401


class KeyNeeded(ServingError):
    """The endpoint answers nobody without an API key, or not with this one."""


@dataclass(frozen=True)
class ServedModel:
    """One name under which something answers."""

    name: str
    base_digest: str
    # Whether this is a base model alone.
    is_base: bool


@dataclass(frozen=True)
class Visitor:
    """Who asks: with which key, and from where."""

    # Counted one by one in a canary, as clients that ask the endpoint themselves are.
    address: str
    key: str = ""

    def headers(self) -> dict[str, str]:
        """What a request of this visitor carries. `KeyNeeded` where the key is none."""
        headers = {"x-forwarded-for": self.address} if self.address else {}
        if not self.key:
            return headers
        if not _KEY.fullmatch(self.key):
            raise KeyNeeded("An API key is one word of letters, digits and signs.")
        return {**headers, "authorization": f"Bearer {self.key}"}


@dataclass
class Answer:
    """One answer while it arrives."""

    model: str
    text: str = ""
    id: str = ""
    # The version that answers, or `base`.
    release: str = ""
    fingerprint: str = ""
    # Why it is not whole.
    error: str = ""
    is_whole: bool = False

    @property
    def can_be_rated(self) -> bool:
        """Whether it is whole, and has a name by which a rating can say which one it is."""
        is_named = self.id != ""
        return self.is_whole and is_named


class EndpointApi:
    """An endpoint of OpenAI's HTTP at `url`, such as `http://127.0.0.1:8080/v1`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT,
            # A proxy that the environment names has no business with it.
            trust_env=False,
        )

    async def models(self, visitor: Visitor) -> tuple[ServedModel, ...]:
        """What answers now, the tuned ones first.

        `KeyNeeded` where that takes a key; `ServingError` where nothing answers.
        """
        try:
            reply = await self._http.get(
                f"{self.url}/models", headers=visitor.headers()
            )
        except httpx.HTTPError as error:
            raise self._absent_error(error) from error
        _check_status(reply)
        models = [_served_model(card) for card in reply.json()["data"]]
        return tuple(sorted(models, key=lambda model: model.is_base))

    async def fill(
        self, answer: Answer, messages: Sequence[Message], visitor: Visitor, user: str
    ) -> AsyncIterator[None]:
        """Ask, and yield each time that more of the answer is there.

        Whatever goes wrong is said in `answer.error`. Leaving early ends the answer.
        """
        body = {
            "model": answer.model,
            "messages": [message.model_dump() for message in messages],
            "stream": True,
            # In a canary, one side answers a whole conversation.
            "user": user,
        }
        try:
            async with self._http.stream(
                "POST",
                f"{self.url}/chat/completions",
                json=body,
                headers=visitor.headers(),
            ) as reply:
                if reply.is_error:
                    await reply.aread()
                _check_status(reply)
                answer.release = reply.headers.get("x-assay-release", "")
                answer.fingerprint = reply.headers.get("x-assay-fingerprint", "")
                async for line in reply.aiter_lines():
                    if _take(answer, line):
                        yield
        except httpx.HTTPError as error:
            answer.error = str(self._absent_error(error))
        except ServingError as error:
            answer.error = str(error)
        else:
            if not answer.is_whole and not answer.error:
                answer.error = "The answer broke off. Ask again."

    async def rate(self, answer: Answer, score: int, visitor: Visitor) -> None:
        """Say that an answer was good (1) or bad (-1). `ServingError` where that is not taken."""
        rating = {"id": answer.id, "score": score}
        try:
            reply = await self._http.post(
                f"{self.url}/feedback", json=rating, headers=visitor.headers()
            )
        except httpx.HTTPError as error:
            raise self._absent_error(error) from error
        _check_status(reply)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    def _absent_error(self, error: httpx.HTTPError) -> ServingError:
        return ServingError(
            f"Nothing answers at {self.url} ({type(error).__name__}). "
            "Start it with `assay up` or `assay serve`."
        )


def _served_model(card: Any) -> ServedModel:
    spec = card.get("spec") or {}
    return ServedModel(
        name=card["id"],
        base_digest=spec.get("base_digest", ""),
        is_base=spec.get("adapter_sha256") is None,
    )


def _take(answer: Answer, line: str) -> bool:
    """Take one line of a stream; whether the answer has changed by it."""
    data = line.removeprefix("data: ")
    if data == line:
        return False
    if data == "[DONE]":
        answer.is_whole = not answer.error
        return True
    event = json.loads(data)
    if "error" in event:
        answer.error = event["error"]["message"]
        return True
    answer.id = event.get("id", answer.id)
    for choice in event.get("choices", ()):
        answer.text += choice["delta"].get("content") or ""
    return True


def _check_status(reply: httpx.Response) -> None:
    """Return only if the endpoint did what it was asked."""
    if reply.is_success:
        return
    message = _message_of(reply)
    if reply.status_code == _UNAUTHORIZED:
        raise KeyNeeded(message)
    raise ServingError(message)


def _message_of(reply: httpx.Response) -> str:
    """The sentence of an error in OpenAI's form."""
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"The endpoint answered {reply.status_code} without saying why."
