"""What is kept of requests and of ratings: the columns, and a row of each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from core.value import Settable
from serving.feedback_schema import Rating
from serving.guardrails.request_texts import change_texts, has_token_ids
from serving.observing.answer_facts import AnswerFacts
from serving.observing.exchange import Exchange
from serving.observing.origin import Origin

Kind = Literal["time", "text", "texts", "integer", "number", "boolean"]
Row = dict[str, Any]
Mask = Callable[[str], str]
SCHEMA_VERSION = "1"
JOURNAL = "current.jsonl"
"""Rows of a table that are not Parquet yet."""
REQUESTS: Mapping[str, Kind] = {
    "time": "time",
    "id": "text",
    "route": "text",
    "model": "text",
    "release": "text",
    "fingerprint": "text",
    "status": "integer",
    "error_code": "text",
    "seconds": "number",
    "first_token_seconds": "number",
    "is_stream": "boolean",
    "prompt_tokens": "integer",
    "completion_tokens": "integer",
    "finish_reason": "text",
    "answer_form": "text",
    "fallback": "text",
    "guardrails": "texts",
    "prompt": "text",
    "answer": "text",
}
"""A row for each request that asked a model, of the share that is kept."""
FEEDBACK: Mapping[str, Kind] = {
    "time": "time",
    "answer_id": "text",
    "model": "text",
    "release": "text",
    "fingerprint": "text",
    "score": "integer",
    "text": "text",
    "correction": "text",
}
"""A row for each rating."""
# Characters of a text that are kept.
_LONGEST_TEXT = 100_000


class Bounds(Settable):
    """How much is kept, and for how long."""

    rotate_minutes: Annotated[float, Field(gt=0, le=1_440)] = 60.0
    rotate_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    most_megabytes: Annotated[float, Field(gt=0, le=1_000_000)] = 1_000.0
    keep_days: Annotated[float, Field(gt=0, le=3_660)] = 30.0


class RequestRecordRules(Bounds):
    """What is kept of requests."""

    # Of all requests that ask a model.
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    # Never as they are: what has the form of personal data or of a secret is masked.
    texts: Literal["none", "masked"] = "none"


@dataclass(frozen=True)
class Texts:
    """How texts are written into rows."""

    are_kept: bool
    mask: Mask

    def masked(self, text: str) -> str:
        """A text as it may be kept."""
        masked = self.mask(text)
        return masked[:_LONGEST_TEXT]


def request_row(
    exchange: Exchange, facts: AnswerFacts, model: str, texts: Texts
) -> Row:
    """A request; `model` is empty where its name is none that is released."""
    row = {
        "time": datetime.fromtimestamp(exchange.began_at, UTC),
        "id": facts.id or exchange.id,
        "route": exchange.path,
        "model": model,
        "release": exchange.release,
        "fingerprint": exchange.fingerprint,
        "status": exchange.status,
        "error_code": facts.error_code,
        "seconds": exchange.seconds,
        "first_token_seconds": exchange.first_seconds,
        "is_stream": exchange.is_stream,
        "prompt_tokens": facts.prompt_tokens,
        "completion_tokens": facts.completion_tokens,
        "finish_reason": facts.finish_reason,
        "answer_form": exchange.answer_form,
        "fallback": exchange.fallback,
        "guardrails": _actions_of(exchange),
        "prompt": None,
        "answer": None,
    }
    if texts.are_kept:
        row["prompt"] = _prompt_of(exchange.request, texts)
        row["answer"] = texts.masked(facts.text)
    return row


def feedback_row(rating: Rating, origin: Origin, texts: Texts) -> Row:
    """A rating of an answer."""
    row: Row = {
        "time": datetime.now(UTC),
        "answer_id": rating.id,
        **origin._asdict(),
        "score": rating.score,
    }
    for name in ("text", "correction"):
        text = getattr(rating, name)
        is_kept = texts.are_kept and text is not None
        row[name] = texts.masked(text) if is_kept else None
    return row


def _actions_of(exchange: Exchange) -> list[str]:
    actions = sorted(exchange.actions)
    counts = exchange.actions
    return [f"{action}:{counts[action]}" for action in actions]


def _prompt_of(body: bytes, texts: Texts) -> str | None:
    """Messages or prompt of a body as JSON, every text in them masked."""
    # Tokens spell out a text in which nothing can be masked.
    if has_token_ids(body):
        return None
    masked = change_texts(body, texts.masked)
    try:
        document = json.loads(masked)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    prompt = document.get("messages", document.get("prompt"))
    # Once more, wherever a text is: a request that an engine refuses may have it anywhere.
    prompt = _masked_everywhere(prompt, texts)
    shown = json.dumps(prompt, ensure_ascii=False)
    # Cut, it would be no JSON any more.
    fits = len(shown) <= 2 * _LONGEST_TEXT
    return shown if fits else None


def _masked_everywhere(part: Any, texts: Texts) -> Any:
    if isinstance(part, str):
        return texts.masked(part)
    if isinstance(part, list):
        return [_masked_everywhere(each, texts) for each in part]
    if isinstance(part, dict):
        # Names as well: they are a client's own, too.
        return {
            texts.masked(name): _masked_everywhere(each, texts)
            for name, each in part.items()
        }
    # A number may be a card's.
    is_number = isinstance(part, int | float) and not isinstance(part, bool)
    return texts.masked(str(part)) if is_number else part
