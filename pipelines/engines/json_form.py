"""Answers that are JSON of a schema: llguidance says which tokens may come next.

    schema ─▶ try_grammar ─▶ JsonForm ─ begin ─▶ JsonConstraint: mask, take, mask, take, …

The library follows an answer byte by byte through a grammar that it makes of the schema. It fetches
nothing: a schema that names another file or address is an error. Where vLLM chooses the tokens, its
answer is followed by the same: take, take, …, may_end.
"""

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from core.log import say
from pipelines.engines import TRANSFORMERS, VLLM, FormFault
from pipelines.engines.grammar_trial import needs_trial, parser_limits, try_grammar
from pipelines.engines.refusal import Refusal
from pipelines.models.chat import ChatEncoder

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer

# White space between two parts of JSON has an end: a weak model would write nothing else.
_OPTIONS = {"whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,16}"}
# Where vLLM writes: versions of the library differ in what that end is, and JSON has none.
_FOLLOWED = {"whitespace_flexible": True}
# What every tokenizer that is taken has to write and read as it is.
_SAMPLE = '{"a": [-1.5e3 , true, null], "é": "x\\n"}'
# Of a fault of the library, which it tells as one of its errors.
_PANIC = "panic"
_PANICS_OF = "pyo3_runtime"
_LONGEST_FACT = 200
_PLACE = re.compile(r" at line \d+ column \d+")
_TOO_COMPLEX = (
    "The JSON Schema in response_format is too complex to be followed to the end of this answer. "
    "Simplify its patterns and alternatives."
)


class JsonForms:
    """JSON Schemas as forms of answers, for one tokenizer."""

    def __init__(self, encoder: ChatEncoder, engine: str = TRANSFORMERS) -> None:
        self._encoder = encoder
        self._engine = engine
        self._options = _FOLLOWED if engine == VLLM else _OPTIONS
        self._opening = threading.Lock()

    def compile(self, schema: str) -> "JsonForm":
        """The form of a JSON Schema, given as JSON; `Refusal` where no answer can be held to it."""
        with self._opening:
            tokens = self._tokens
        if tokens is None:
            raise holds_to_none_error(self._engine)
        grammar = _grammar_of(schema, self._options)
        fault = try_grammar(grammar) if needs_trial(schema) else ""
        if fault:
            raise _refuse(fault)
        try:
            form = JsonForm(tokens, grammar, schema)
        except FormFault:
            raise _refuse(_PANIC) from None
        form.check()
        return form

    # On the first request for JSON: most engines never have one, and half a second is long at a
    # start.
    @cached_property
    def _tokens(self) -> "_Tokens | None":
        try:
            return _Tokens(self._encoder)
        except _NotTaken as error:
            say(f"Answers are not held to JSON Schemas here: {error}.")
            return None


def holds_to_none_error(engine: str) -> Refusal:
    """That engine knows no JSON Schema."""
    return Refusal(
        f"The engine {engine} does not hold answers to a JSON Schema. "
        "Leave response_format out, and describe the form in the messages.",
        code="unsupported_parameter",
        param="response_format",
    )


class JsonForm:
    """A compiled schema."""

    def __init__(self, tokens: "_Tokens", grammar: str, schema: str) -> None:
        from llguidance import LLMatcher

        self.bounded = json.dumps(_with_options(schema, _OPTIONS))
        """The schema as JSON, for another program that knows the library."""
        self._tokens = tokens
        began = time.thread_time()
        with _no_panic():
            self._beginning = LLMatcher(
                tokens.tokenizer,
                grammar,
                # Its warnings would quote the schema in the log.
                log_level=0,
                limits=parser_limits(),
            )
        self.seconds = time.thread_time() - began
        """Of the processor, to compile it."""

    def check(self) -> None:
        """Return only if an answer may begin: a `Refusal` says why none can."""
        if self._beginning.is_error():
            raise _refuse(self._beginning.get_error())
        try:
            self._tokens.forbidden(
                self._beginning.deep_copy(), self._tokens.tokenizer.vocab_size
            )
        except FormFault:
            raise _refuse("no answer can begin under it") from None

    def begin(self) -> "JsonConstraint":
        """The constraint of one more answer."""
        matcher = self._beginning.deep_copy()
        return JsonConstraint(self._tokens, matcher)


class JsonConstraint:
    """One answer, as far as it has come."""

    def __init__(self, tokens: "_Tokens", matcher: "LLMatcher") -> None:
        self._tokens = tokens
        self._matcher = matcher

    @property
    def is_complete(self) -> bool:
        """Whether the JSON is whole and nothing can follow it."""
        return self._matcher.is_stopped()

    @property
    def may_end(self) -> bool:
        """Whether the JSON is whole as it is."""
        return self._matcher.is_accepting()

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """The logits, shape (vocabulary,), with minus infinity where a token cannot come next.

        `FormFault` where the library gives up, or no token goes on.
        """
        import torch

        count = len(logits)
        forbidden = self._tokens.forbidden(self._matcher, count)
        mask = torch.from_numpy(forbidden).to(logits.device)
        return logits.masked_fill(mask, -torch.inf)

    def take(self, token: int) -> None:
        """Go on behind a token; `FormFault` where the library gives up."""
        with _no_panic():
            self._matcher.consume_token(token)
        _check(self._matcher)


class _NotTaken(Exception):
    """The library cannot follow this tokenizer, or is not there; the message says why."""


class _Tokens:
    """The tokens of a model as the library knows them."""

    def __init__(self, encoder: ChatEncoder) -> None:
        import numpy as np

        self.tokenizer = _open_tokenizer(encoder)
        self._control = np.array(sorted(encoder.control_ids), dtype=np.int64)
        self._ends = np.array(encoder.end_ids, dtype=np.int64)

    def forbidden(self, matcher: "LLMatcher", count: int) -> Any:
        """Whether each of `count` tokens cannot come next; booleans, shape (count,).

        Tokens that end the turn can only where the JSON is whole, and other control tokens never.
        """
        import numpy as np

        with _no_panic():
            written = matcher.compute_logit_bias()
            may_end = matcher.is_accepting()
        _check(matcher)
        # A byte for each token, and 0 where it cannot come next.
        known = np.frombuffer(written, dtype=np.uint8)[:count]
        # A model may have more logits than its tokenizer has tokens, or fewer.
        forbidden = np.ones(count, dtype=np.bool_)
        np.equal(known, 0, out=forbidden[: len(known)])
        control, ends = self._control, self._ends
        forbidden[control[control < count]] = True
        forbidden[ends[ends < count]] = not may_end
        if forbidden.all():
            raise FormFault(_TOO_COMPLEX)
        return forbidden


def _open_tokenizer(encoder: ChatEncoder) -> "LLTokenizer":
    try:
        from llguidance.hf import from_tokenizer
    except ImportError as error:
        raise _NotTaken("llguidance is not installed") from error
    tokenizer: Any = encoder.tokenizer
    try:
        with _no_panic():
            opened = from_tokenizer(tokenizer, eos_token=encoder.end_id)
    # A tokenizer that is not of the library tokenizers, or of a kind unknown to llguidance.
    except Exception as error:
        raise _NotTaken("llguidance does not take this tokenizer") from error
    encoding = tokenizer(_SAMPLE, add_special_tokens=False)
    ids = list(encoding["input_ids"])
    texts = {opened.decode_str(ids).strip(), encoder.decode_together(ids).strip()}
    if texts != {_SAMPLE}:
        raise _NotTaken("llguidance reads other texts from this tokenizer's ids")
    return opened


def _grammar_of(schema: str, options: Mapping[str, Any]) -> str:
    described = _with_options(schema, options)
    return json.dumps({"grammars": [{"json_schema": described}]})


def _with_options(schema: str, options: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(schema)
    # In place of what the client may have written there: it would change what JSON is.
    document["x-guidance"] = options
    return document


@contextmanager
def _no_panic() -> Iterator[None]:
    """Have a panic of the library be a fault of the schema: as it comes, it ends a thread."""
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != _PANICS_OF:
            raise
        raise FormFault(_TOO_COMPLEX) from error


def _check(matcher: "LLMatcher") -> None:
    if matcher.is_error():
        raise FormFault(_TOO_COMPLEX)


def _refuse(fact: str) -> Refusal:
    lines = fact.strip().splitlines() or [""]
    # Places in the text that was made of the schema say nothing to whoever wrote it.
    first = _PLACE.sub("", lines[0])
    shown = first[:_LONGEST_FACT]
    if shown.startswith(_PANIC):
        shown = "it is too complex"
    # What is wrong in a regular expression stands in its last line.
    if shown.startswith("regex"):
        shown = f"{shown} {lines[-1]}"[:_LONGEST_FACT]
    return Refusal(
        f"No answer can be held to the JSON Schema in response_format: {shown}. Change the schema.",
        code="invalid_value",
        param="response_format",
    )
