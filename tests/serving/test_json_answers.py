"""Answers that are JSON of a schema, by a model that knows nothing: whatever it writes, it fits."""

import asyncio
import json
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from jsonschema import Draft202012Validator
from transformers import ByT5Tokenizer

from pipelines.engines import (
    Engine,
    Failed,
    Finished,
    Form,
    FormFault,
    GenerationRequest,
)
from pipelines.engines.json_form import JsonForms
from pipelines.engines.refusal import Refusal
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.batching import Batching
from pipelines.models.chat import ChatEncoder
from pipelines.models.language_model import load_language_model
from serving.kept_forms import KeptForms
from serving.openai_schema.chat import parse_request
from serving.plans import Planner, Turns
from tests.support.listening import Listener
from tests.support.running_engine import Served
from tests.support.tiny import CHAT_TEMPLATE, CONTROL_TOKENS
from tests.support.waiting import SECONDS_AT_MOST

NEW_TOKENS = 350
"""More than the longest answer of these schemas."""
SHORT = {"type": "string", "maxLength": 6}
DIGIT = {"type": "integer", "minimum": -9, "maximum": 99}
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"enum": ["red", "green", 3, None, True, {"a": [1]}]},
    "fields": {
        "type": "object",
        "properties": {"name": SHORT, "age": DIGIT, "is_new": {"type": "boolean"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "list": {"type": "array", "items": DIGIT, "minItems": 1, "maxItems": 4},
    "nested": {
        "type": "object",
        "properties": {
            "at": {
                "type": "object",
                "properties": {"x": DIGIT, "y": DIGIT},
                "required": ["x", "y"],
                "additionalProperties": False,
            },
            "tags": {"type": "array", "items": SHORT, "maxItems": 2},
        },
        "required": ["at", "tags"],
        "additionalProperties": False,
    },
    "choice": {"anyOf": [DIGIT, SHORT, {"type": "null"}]},
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "date": {"type": "string", "format": "date"},
    "unicode": {
        "type": "object",
        "properties": {"Größe 大": DIGIT, '"\\\n': {"const": "é😀"}},
        "required": ["Größe 大", '"\\\n'],
        "additionalProperties": False,
    },
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "boolean"},
                    "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["value", "left"],
                "additionalProperties": False,
            }
        },
    },
}

LONG = [
    pytest.param(name, marks=pytest.mark.ci)
    for name in SCHEMAS
    if name not in {"choice", "pattern"}
]


@pytest.fixture(scope="module")
def encoder(served: Served) -> ChatEncoder:
    return ChatEncoder.load(served.base_folder, CHAT_TEMPLATE)


def requests_for(
    engine: Engine, schema: dict[str, Any], **fields: Any
) -> list[GenerationRequest]:
    """The same schema with both models, greedy and drawn."""
    form = engine.json_form(json.dumps(schema))
    made = []
    for number, model in enumerate(("tuned", "tiny")):
        request = GenerationRequest(
            model, (5, 6, 7 + number), NEW_TOKENS, form=form, **fields
        )
        drawn = [
            replace(request, temperature=1.0 + seed / 4, top_p=0.9, seed=seed)
            for seed in range(3)
        ]
        made += [request, *drawn]
    return made


def check_answer(schema: dict[str, Any], text: str, end: Finished | Failed) -> None:
    assert isinstance(end, Finished)
    if end.reason == "length":
        # Cut, and so far right: any token more would have been one that fits.
        assert end.completion_tokens == NEW_TOKENS
        return
    document = json.loads(text)
    validator = Draft202012Validator(
        schema, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    validator.validate(document)


@pytest.mark.parametrize("name", ["choice", "pattern", *LONG])
def test_every_answer_is_json_of_its_schema(engine: Engine, name: str) -> None:
    schema = SCHEMAS[name]
    listeners = [Listener(engine, each) for each in requests_for(engine, schema)]
    whole = 0
    for listener in listeners:
        text, end = listener.rest()
        check_answer(schema, text, end)
        whole += end != Finished("length", NEW_TOKENS)
    assert whole


@pytest.mark.ci
def test_rows_with_a_schema_leave_those_without_as_they_are(engine: Engine) -> None:
    plain = [
        GenerationRequest(model, (9, 8, number), 40, temperature, seed=number)
        for model in ("tuned", "tiny")
        for number, temperature in enumerate((0.0, 1.2))
    ]
    alone = [Listener(engine, each).rest() for each in plain]
    held = requests_for(engine, SCHEMAS["nested"])
    beside = [Listener(engine, each) for each in held[:4]]
    others = [Listener(engine, each) for each in plain]
    assert [each.rest() for each in others] == alone
    for listener in beside:
        check_answer(SCHEMAS["nested"], *listener.rest())


def test_an_engine_that_answers_one_by_one_holds_to_a_schema(
    engine: Engine, served: Served
) -> None:
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", None
    )
    alone = replace(language, batching=Batching.LEFT_PADDING)
    one_by_one = TransformersEngine(alone, {"tiny": engine.specs["tiny"]})
    form = one_by_one.json_form(json.dumps(SCHEMAS["choice"]))
    greedy = GenerationRequest("tiny", (5, 6, 7), NEW_TOKENS, form=form)
    drawn = replace(greedy, temperature=1.0, seed=4)
    answers = [Listener(one_by_one, each).rest() for each in (greedy, drawn)]
    one_by_one.close()
    for text, end in answers:
        check_answer(SCHEMAS["choice"], text, end)
    # Both ways to compute choose the same tokens.
    assert Listener(engine, greedy).rest() == answers[0]


def test_an_answer_that_is_cut_says_so(engine: Engine) -> None:
    form = engine.json_form(json.dumps(SCHEMAS["fields"]))
    request = GenerationRequest("tiny", (5, 6), 4, form=form)
    text, end = Listener(engine, request).rest()
    assert end == Finished("length", 4)
    assert text.startswith("{")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_an_answer_ends_with_its_last_bracket(engine: Engine) -> None:
    form = engine.json_form('{"const": {}}')
    request = GenerationRequest("tiny", (5, 6), 40, form=form)
    text, end = Listener(engine, request).rest()
    assert json.loads(text) == {}
    assert end == Finished("stop", len(text))


def test_a_stop_string_cuts_json_like_any_text(engine: Engine) -> None:
    form = engine.json_form('{"const": "abcdef"}')
    request = GenerationRequest("tiny", (5, 6), 40, form=form, stop=("d",))
    assert Listener(engine, request).rest() == ('"abc', Finished("stop", 4))


def test_probabilities_are_those_of_the_model_whatever_the_schema_allows(
    engine: Engine,
) -> None:
    form = engine.json_form('{"const": "zq"}')
    free = GenerationRequest("tiny", (5, 6), 1, top_logprobs=3)
    held = replace(free, max_tokens=9, form=form)
    first, second = Listener(engine, free), Listener(engine, held)
    first.rest()
    text, _ = second.rest()
    assert text == '"zq"'
    assert [score.text for score in second.scores] == list(text)
    # The likeliest tokens are named though the schema forbids them.
    assert second.scores[0].top == first.scores[0].top
    assert second.scores[0].text not in [name for _, name, _ in first.scores[0].top]
    logarithms = [score.logprob for score in second.scores]
    assert all(each is not None and -1000 < each < 0 for each in logarithms)


def test_a_seed_draws_the_same_json_again(engine: Engine) -> None:
    form = engine.json_form(json.dumps(SCHEMAS["pattern"]))
    request = GenerationRequest("tuned", (5,), 40, 1.5, form=form, seed=3)
    texts = [Listener(engine, replace(request, seed=n)).rest()[0] for n in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


HARD = {"properties": {f"p{number}": {"type": "integer"} for number in range(700)}}
"""Behind the first bracket there are more ways to go on than are followed at once."""


def test_a_schema_that_grows_too_complex_fails_its_own_answer_alone(
    engine: Engine,
) -> None:
    plain = GenerationRequest("tiny", (9, 8), 30)
    expected = Listener(engine, plain).rest()
    form = engine.json_form(json.dumps({"type": "object", **HARD}))
    request = GenerationRequest("tiny", (5, 6), NEW_TOKENS, form=form)
    failing, beside = Listener(engine, request), Listener(engine, plain)
    _, end = failing.rest()
    assert isinstance(end, Failed)
    assert end.param == "response_format"
    assert "too complex" in end.message
    assert beside.rest() == expected


@pytest.mark.parametrize(
    ("schema", "fact"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "strin"}, "strin"),
        ({"properties": 5}, "properties must be an object"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-ahead"),
        ({"type": "string", "pattern": "(((("}, "unclosed group"),
        ({"type": "string", "pattern": "^a$", "minLength": 5}, "Unsatisfiable"),
        ({"type": "string", "format": "binary"}, "Unknown format"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "Unsatisfiable"),
        ({"type": "integer", "minimum": 5, "maximum": 1}, "Unsatisfiable"),
        ({"enum": []}, "Unsatisfiable"),
        ({"const": 10**400}, "number out of range"),
        ({"type": "array", "maxItems": -1}, "maxItems"),
        ({"$schema": "http://x.invalid/y", "type": "integer"}, "not present"),
        # The library itself breaks on this one.
        ({"type": "integer", "minimum": "é" * 60}, "too complex"),
    ],
)
def test_a_schema_that_no_answer_can_be_held_to_is_refused(
    engine: Engine, schema: dict[str, Any], fact: str
) -> None:
    with pytest.raises(Refusal) as refused:
        engine.json_form(json.dumps(schema))
    sentence = str(refused.value)
    assert fact in sentence
    assert (refused.value.status, refused.value.param) == (400, "response_format")
    assert "\n" not in sentence
    assert len(sentence) < 400


MULTIPLES = [
    {"type": "integer", "multipleOf": 99_991 + 2 * each} for each in range(300)
]
CHAIN = {
    f"d{number}": {"properties": {"a": {"$ref": f"#/$defs/d{number + 1}"}}}
    for number in range(3000)
}


@pytest.mark.ci
@pytest.mark.parametrize(
    "schema",
    [
        # It would be compiled for minutes.
        {"type": "array", "prefixItems": MULTIPLES},
        # It would overflow the stack, which ends a process.
        {"$ref": "#/$defs/d0", "$defs": {**CHAIN, "d3000": {}}},
    ],
    ids=["hangs", "breaks"],
)
def test_a_schema_that_hangs_or_breaks_the_library_is_refused(
    engine: Engine, schema: dict[str, Any]
) -> None:
    with pytest.raises(Refusal, match="too complex to be compiled"):
        engine.json_form(json.dumps(schema))
    assert engine.json_form("{}")


def test_what_a_schema_says_to_the_library_changes_nothing(engine: Engine) -> None:
    schema = {"const": [1, 2], "x-guidance": {"item_separator": "!"}}
    form = engine.json_form(json.dumps(schema))
    request = GenerationRequest("tiny", (5, 6), 40, form=form)
    assert json.loads(Listener(engine, request).rest()[0]) == [1, 2]


def likeliest_ids(form: Form, written: Sequence[int], count: int) -> set[int]:
    """Ids that may come behind those that were written."""
    constraint = form.begin()
    for token in written:
        constraint.take(token)
    return set(constraint.mask(torch.zeros(count)).isfinite().nonzero()[:, 0].tolist())


def test_the_forms_of_the_latest_schemas_are_kept(engine: Engine) -> None:
    schemas = [json.dumps({"const": number}) for number in range(40)]

    async def made() -> list[Form]:
        kept = KeptForms(engine)
        first = await kept.of_json(schemas[0])
        same = await kept.of_json(schemas[0])
        for schema in schemas[1:]:
            await kept.of_json(schema)
        return [first, same, await kept.of_json(schemas[0])]

    first, same, anew = asyncio.run(made())
    assert first is same
    assert anew is not first


class SlowLibrary:
    """An engine whose costly schemas take until they are let go."""

    def __init__(self, engine: Engine) -> None:
        self.is_asked = threading.Event()
        self.go = threading.Event()
        self.made: list[str] = []
        self._engine = engine

    def json_form(self, schema: str) -> Form:
        self.is_asked.set()
        if "pattern" in schema:
            assert self.go.wait(SECONDS_AT_MOST)
        self.made.append(schema)
        return self._engine.json_form("{}")


def test_schemas_that_take_long_hold_up_each_other_alone_and_not_without_end(
    engine: Engine,
) -> None:
    costly = [json.dumps({"pattern": f"a{number}"}) for number in range(9)]
    slow = SlowLibrary(engine)

    async def ask() -> None:
        kept = KeptForms(cast("Engine", slow))
        known = await kept.of_json("{}")
        waiting = [asyncio.create_task(kept.of_json(schema)) for schema in costly[:8]]
        # Whoever sends one that is waited for already waits with it.
        same = asyncio.create_task(kept.of_json(costly[7]))
        leaving = asyncio.create_task(kept.of_json(costly[0]))
        await asyncio.sleep(0)
        leaving.cancel()
        assert await kept.of_json("{}") is known
        assert await kept.of_json('{"const": 1}')
        with pytest.raises(Refusal) as refused:
            await kept.of_json(costly[8])
        assert (refused.value.status, refused.value.code) == (503, "overloaded")
        slow.go.set()
        made = await asyncio.gather(*waiting)
        assert await same is made[7]
        # There is room again.
        assert await kept.of_json(costly[8])

    asyncio.run(ask())
    assert slow.made == ["{}", '{"const": 1}', *costly]


def test_releases_of_one_process_wait_for_each_other_with_what_takes_long(
    engine: Engine,
) -> None:
    slow = SlowLibrary(engine)
    chats = []
    for number in range(6):
        schema = {"name": "it", "schema": {"pattern": f"a{number}"}}
        form = {"type": "json_schema", "json_schema": schema}
        message = {"role": "user", "content": "hello"}
        fields = {"model": "tuned", "messages": [message], "response_format": form}
        chats.append(parse_request(json.dumps(fields).encode()))

    async def ask() -> None:
        # As many as there may be, on the smallest machine.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(6))
        turns = Turns.of(slow)
        planning = [
            asyncio.create_task(Planner(engine, turns).plan_chat(chat))
            for chat in chats
        ]
        await asyncio.to_thread(slow.is_asked.wait, SECONDS_AT_MOST)
        plain = chats[0].model_copy(update={"response_format": None})
        assert await Planner(engine, turns).plan_chat(plain)
        assert not slow.go.is_set()
        slow.go.set()
        await asyncio.gather(*planning)

    asyncio.run(ask())


def test_a_schema_that_was_refused_is_no_trouble_to_the_next_one(
    engine: Engine,
) -> None:
    async def ask() -> None:
        kept = KeptForms(engine)
        for _ in range(2):
            with pytest.raises(Refusal, match="No answer can be held to"):
                await kept.of_json('{"const": 1, "type": "string"}')
        assert await kept.of_json('{"const": 1}')

    asyncio.run(ask())


def test_control_tokens_are_never_allowed_but_for_the_end(
    encoder: ChatEncoder,
) -> None:
    form = JsonForms(encoder).compile('{"type": ["string", "integer"]}')
    ids = {
        name: encoder.tokenizer.convert_tokens_to_ids(name) for name in CONTROL_TOKENS
    }
    ends = {number for number in ids.values() if number in encoder.end_ids}
    # A model may have more logits than there are tokens.
    count = len(encoder.tokenizer) + 5
    for text, may_end in (("", False), ('"<|im_', False), ("12", True), ("-", False)):
        written = encoder.encode_plain(text)
        allowed = likeliest_ids(form, written, count)
        assert allowed & set(ids.values()) == (ends if may_end else set())
        assert max(allowed) < len(encoder.tokenizer)
    assert ends < set(ids.values())


def test_numbers_that_are_none_are_not_hidden_by_a_schema(
    encoder: ChatEncoder,
) -> None:
    form = JsonForms(encoder).compile('{"type": "integer"}')
    request = GenerationRequest("tiny", (5,), 4, form=form)
    (letter,) = encoder.encode_plain("a")
    logits = torch.zeros(len(encoder.tokenizer))
    logits[letter] = torch.nan
    answer = RunningAnswer(request, lambda _: None, encoder)
    with pytest.raises(ValueError, match="not finite"):
        answer.take(logits)


def test_where_the_library_is_missing_a_schema_is_refused(
    encoder: ChatEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance.hf", None)
    with pytest.raises(Refusal, match="does not hold answers to a JSON Schema"):
        JsonForms(encoder).compile("{}")


def test_a_tokenizer_that_the_library_does_not_know_is_refused(
    encoder: ChatEncoder,
) -> None:
    unknown: Any = ByT5Tokenizer()
    with pytest.raises(Refusal, match="does not hold answers to a JSON Schema"):
        JsonForms(replace(encoder, tokenizer=unknown)).compile("{}")


def test_a_panic_of_the_library_is_a_fault_of_the_schema(encoder: ChatEncoder) -> None:
    form = JsonForms(encoder).compile('{"type": "integer"}')
    with pytest.raises(FormFault):
        form.begin().take(10**6)
