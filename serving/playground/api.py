"""The endpoint as the page asks it: models, answers that arrive piece by piece, and ratings."""

import json
import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from core.errors import ServingError
from pipelines.values.dataset import Message
from serving.own_certificate import own_trust

# Anything else cannot be sent in a header.
_KEY = re.compile(r"[\x21-\x7e]{1,512}")
# Between two pieces of an answer: a queue may be long, and an endpoint that hangs is not.
_TIMEOUT = httpx.Timeout(120.0, connect=5.0)
# A list takes no model: where it is not there at once, it is better said than waited for.
_SECONDS_FOR_MODELS = 5.0
_UNAUTHORIZED = 401
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# What `x-assay-release` says where a fixed text or a note to a person stands in for an answer.
_NO_MODEL = "none"
# `InvalidURL` is none of httpx's own errors of a request.
_UNREACHED = (httpx.HTTPError, httpx.InvalidURL)
# What reading JSON of another form than OpenAI's raises; deep nesting the last one.
_MISREAD = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


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
    def is_of_model(self) -> bool:
        """Whether a model wrote it: the endpoint may answer with a fixed text where none can."""
        return self.release != _NO_MODEL

    @property
    def can_be_rated(self) -> bool:
        """Whether it is whole, and has a name by which a rating can say which one it is."""
        is_named = self.id != ""
        return self.is_whole and is_named and self.is_of_model


class EndpointApi:
    """An endpoint of OpenAI's HTTP at `url`, such as `http://127.0.0.1:8080/v1`."""

    def __init__(
        self, url: str, seconds_for_models: float = _SECONDS_FOR_MODELS
    ) -> None:
        self.url = url.rstrip("/")
        self._seconds_for_models = seconds_for_models
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT,
            # The page's server bounds its visitors. httpx lets 100 ask, and the others would hear
            # that nothing answers.
            limits=httpx.Limits(max_connections=None),
            verify=_trust_of(self.url),
            # A proxy that the environment names has no business with it.
            trust_env=False,
        )

    async def models(self, visitor: Visitor) -> tuple[ServedModel, ...]:
        """What answers now, the tuned ones first.

        `KeyNeeded` where that takes a key; `ServingError` where nothing answers, or no endpoint.
        """
        try:
            reply = await self._http.get(
                f"{self.url}/models",
                headers=visitor.headers(),
                timeout=self._seconds_for_models,
            )
        except _UNREACHED as error:
            raise self._absent_error(error) from error
        _check_status(reply)
        try:
            models = [_served_model(card) for card in reply.json()["data"]]
        except _MISREAD as error:
            raise ServingError(
                f"What answers at {self.url} lists no models as OpenAI's API does. "
                "Give the address of an endpoint, with its /v1."
            ) from error
        return tuple(sorted(models, key=lambda model: model.is_base))

    async def fill(
        self, answer: Answer, messages: Sequence[Message], visitor: Visitor, user: str
    ) -> AsyncGenerator[None]:
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
                async for line in _lines(reply):
                    if _take(answer, line):
                        yield
        except _UNREACHED as error:
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
        except _UNREACHED as error:
            raise self._absent_error(error) from error
        _check_status(reply)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    def _absent_error(self, error: Exception) -> ServingError:
        return ServingError(
            f"Nothing answers at {self.url} ({type(error).__name__}). "
            "Start it with `assay up` or `assay serve`."
        )


def _trust_of(url: str) -> ssl.SSLContext | bool:
    """Whose certificates count there: on this machine the endpoint's own one, where there is one.

    Elsewhere, and without one, those of the public authorities.
    """
    try:
        parts = urlsplit(url)
    # What is no address is named where it is asked.
    except ValueError:
        return True
    if parts.scheme != "https" or parts.hostname not in LOOPBACK:
        return True
    return own_trust() or True


def _served_model(card: Any) -> ServedModel:
    spec = card.get("spec") or {}
    return ServedModel(
        name=str(card["id"]),
        # Other servers than Assay's have no such fields.
        base_digest=spec.get("base_digest", ""),
        is_base=spec.get("adapter_sha256") is None,
    )


async def _lines(reply: httpx.Response) -> AsyncIterator[str]:
    """Each whole line of a stream of events.

    httpx's own lines end at U+2028 and others too, which stand in JSON as they are.
    """
    rest = b""
    async for piece in reply.aiter_bytes():
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            text = line.decode(errors="replace")
            yield text.removesuffix("\r")


def _take(answer: Answer, line: str) -> bool:
    """Take one line of a stream; whether the answer has changed by it. `ServingError`: none is."""
    data = line.removeprefix("data: ")
    # Comments keep a connection open, and say nothing.
    if data == line:
        return False
    if data == "[DONE]":
        # It ends an answer that failed, too.
        answer.is_whole = not answer.error
        return True
    try:
        _take_event(answer, json.loads(data))
    except _MISREAD as error:
        raise ServingError(
            "The endpoint sent something that is no answer in OpenAI's form. Ask again."
        ) from error
    return True


def _take_event(answer: Answer, event: Any) -> None:
    if "error" in event:
        answer.error = str(event["error"]["message"])
        return
    answer.id = str(event.get("id", answer.id))
    for choice in event.get("choices", ()):
        # The first and the last piece have a role or a reason, and no text.
        answer.text += choice["delta"].get("content") or ""


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
    # A proxy between both answers in HTML.
    except _MISREAD:
        return f"The endpoint answered {reply.status_code} without saying why."
