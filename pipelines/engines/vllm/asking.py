"""One request to vLLM's server: token ids in, and each token of the answer as it comes."""

import json
import math
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from core.errors import ServingError
from pipelines.engines import GenerationRequest
from pipelines.engines.json_form import JsonForm
from pipelines.engines.vllm.order import Address

_SECONDS_TO_CONNECT = 5.0
# Before the next token: a long prompt, or a long queue, gives none for minutes.
_SECONDS_OF_SILENCE = 600.0
_SEED_BITS = 63
_ID_MARK = "token_id:"
_EVENT_MARK = "data: "
_LAST_EVENT = "[DONE]"


class AnswerStopped(ServingError):
    """vLLM does not begin an answer, or does not go on with it, and runs on."""


@dataclass(frozen=True)
class ChosenToken:
    """A token, the logarithm of its probability, and the likeliest in its place, best first."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Question:
    """What is asked, under a name that is a digest."""

    name: str
    prompt: Sequence[int]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    top_logprobs: int = 0
    end_ids: Sequence[int] = ()
    # A JSON Schema, as JSON; None: any text.
    schema: str | None = None
    # What alone may be chosen; nothing: any token.
    allowed: Sequence[int] = ()

    @classmethod
    def of(cls, request: GenerationRequest, name: str, end_ids: Sequence[int]) -> Self:
        """The part of a request that vLLM decides; stop strings are not among it."""
        form = request.form
        return cls(
            name=name,
            prompt=request.prompt,
            max_tokens=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            seed=request.seed,
            top_logprobs=request.top_logprobs or 0,
            end_ids=end_ids,
            schema=form.bounded if isinstance(form, JsonForm) else None,
        )

    @property
    def body(self) -> dict[str, Any]:
        """As `POST /v1/completions` takes it."""
        return {
            "model": self.name,
            "prompt": list(self.prompt),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self._seed,
            "logprobs": self.top_logprobs,
            "stream": True,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            # The tokens that end a turn are ours to name, not the base's configuration's.
            "stop_token_ids": list(self.end_ids),
            "ignore_eos": True,
            "allowed_token_ids": list(self.allowed) or None,
            **self._held,
        }

    @property
    def _held(self) -> dict[str, Any]:
        if self.schema is None:
            return {}
        return {"structured_outputs": {"json": self.schema}}

    @property
    def _seed(self) -> int:
        # Without one vLLM draws from a chance that begins alike in each process.
        if self.seed is None:
            return secrets.randbits(_SEED_BITS)
        # To it, -1 means none.
        return self.seed % (1 << _SEED_BITS)


def open_client(address: Address) -> httpx.AsyncClient:
    """What asks the server, for as long as it is open."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(
            uds=str(address.socket),
            # A connection that was kept may be about to close.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        ),
        base_url="http://vllm",
        headers={"authorization": f"Bearer {address.token}"},
        timeout=httpx.Timeout(_SECONDS_OF_SILENCE, connect=_SECONDS_TO_CONNECT),
    )


async def ask(
    client: httpx.AsyncClient, question: Question
) -> AsyncGenerator[ChosenToken, None]:
    """The answer's tokens, the one that ends the turn included.

    Closing the generator early aborts the answer in vLLM. `AnswerStopped` where vLLM refuses, or
    stops in the middle; another `ServingError` where it answers by another name; `httpx.HTTPError`
    where it has ended.
    """
    async with client.stream("POST", "/v1/completions", json=question.body) as reply:
        if reply.status_code != httpx.codes.OK:
            said = await reply.aread()
            raise AnswerStopped(
                f"vLLM answered {reply.status_code}: {said[:300].decode(errors='replace')}"
            )
        async for line in reply.aiter_lines():
            text = line.removeprefix(_EVENT_MARK)
            if text in ("", _LAST_EVENT):
                continue
            for token in _read_line(text, question):
                yield token


def _read_line(text: str, question: Question) -> list[ChosenToken]:
    try:
        return _read_event(json.loads(text), question)
    # Another version of vLLM may write other events.
    except (KeyError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise ServingError(
            f"vLLM wrote an event of another form than expected ({kind})"
        ) from error


def _read_event(event: Mapping[str, Any], question: Question) -> list[ChosenToken]:
    if "error" in event:
        raise AnswerStopped(f"vLLM stopped: {str(event['error'])[:300]}")
    # It names what it used, so that an answer by other weights would be seen.
    if event["model"] != question.name:
        raise ServingError("vLLM answered by another model than the one asked for")
    tokens = []
    for choice in event["choices"]:
        scores = choice["logprobs"]
        triples = zip(
            choice["token_ids"],
            scores["token_logprobs"],
            scores["top_logprobs"],
            strict=True,
        )
        for number, logprob, top in triples:
            token = ChosenToken(number, _finite(logprob), _by_id(top))
            tokens.append(token)
    return tokens


def _finite(logprob: float | None) -> float:
    if logprob is None or not math.isfinite(logprob):
        raise ServingError("vLLM computed probabilities that are not finite")
    return logprob


def _by_id(top: Mapping[str, float | None]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for mark, logprob in top.items():
        number = int(mark.removeprefix(_ID_MARK))
        pairs.append((number, _finite(logprob)))
    pairs.sort(key=lambda pair: -pair[1])
    return tuple(pairs)
