"""Every field that OpenAI's own client can send.

Taken where it changes nothing, else refused in a sentence for people.
"""

import json
from typing import Any

import pytest
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from pipelines.engines.refusal import Refusal
from serving.openai_schema.chat import (
    ChatMessage,
    ChatRequest,
    JsonSchemaFormat,
    ResponseFormat,
    TextPart,
    parse_request,
)
from serving.openai_schema.generation import StreamOptions

SAID = {"role": "user", "content": "x"}
FUNCTION = {"type": "function", "function": {"name": "f"}}
# What changes nothing, and what asks for something that is not served. No entry: there is none.
NEUTRAL: dict[str, list[Any]] = {
    "model": ["tiny"],
    "messages": [[SAID]],
    "audio": [None],
    "frequency_penalty": [None, 0, 0.0],
    "function_call": [None, "none", "auto"],
    "functions": [None, []],
    "logit_bias": [None, {}],
    "logprobs": [None, False, True],
    "max_completion_tokens": [None, 5],
    "max_tokens": [None, 5],
    "metadata": [None, {}, {"team": "docs"}],
    "modalities": [None, ["text"]],
    "moderation": [None],
    "n": [None, 1, 16],
    "parallel_tool_calls": [None, True, False],
    "prediction": [None],
    "presence_penalty": [None, 0, 0.0],
    "prompt_cache_key": [None, "k"],
    "prompt_cache_options": [None, {}],
    "prompt_cache_retention": [None, "24h"],
    "reasoning_effort": [None, "none"],
    "response_format": [
        None,
        {"type": "text"},
        {"type": "text", "json_schema": None},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    ],
    "safety_identifier": [None, "s"],
    "seed": [None, 0, -1, 7],
    "service_tier": [None, "auto", "default"],
    "stop": [None, [], "a", ["a", "b"]],
    "store": [None, False],
    "stream": [None, True, False],
    "stream_options": [None, {}, {"include_usage": False}],
    "temperature": [None, 0, 0.7],
    "tool_choice": [None, "none", "auto"],
    "tools": [None, []],
    "top_logprobs": [None, 0],
    "top_p": [None, 1, 0.5],
    "user": [None, "ann"],
    "verbosity": [None, "medium"],
    "web_search_options": [None],
    # Not OpenAI's, and sent by many clients of other servers.
    "repetition_penalty": [None, 1, 1.0],
    "top_k": [None, -1, 0],
    "min_p": [None, 0.0],
    "min_tokens": [None, 0],
    "best_of": [None, 1],
    "ignore_eos": [None, False],
}
REFUSED: dict[str, list[Any]] = {
    "model": [None, 5, "x" * 2000],
    "messages": [None, "x", [], ["x"], [None], [SAID] * 2000, {"role": "user"}],
    "audio": [{"voice": "ash", "format": "wav"}],
    "frequency_penalty": [0.5, -2, "0", True],
    "function_call": [{"name": "f"}, "f"],
    "functions": [[{"name": "f"}], "f"],
    "logit_bias": [{"5": 100}, []],
    "logprobs": [1, "false"],
    "max_completion_tokens": [0, -1, 1.5, "5", True, 10**9, 10**60],
    "max_tokens": [0, -1, 1.5, "5", True, 10**9, 10**60],
    "metadata": [{"a": 1}, "x", [], {"a": {"b": "c"}}],
    "modalities": [["audio"], ["text", "audio"], [], "audio"],
    "moderation": [{"model": "omni-moderation-latest"}],
    "n": [17, 0, 1.5, "1", True],
    "parallel_tool_calls": ["x", 1],
    "prediction": [{"type": "content", "content": "x"}],
    "presence_penalty": [0.5, -2, "0", False],
    "prompt_cache_key": [5, "x" * 2000],
    "prompt_cache_options": [{"mode": "explicit"}],
    "prompt_cache_retention": [5],
    "reasoning_effort": ["low", "high"],
    "response_format": [
        {"type": "json"},
        {"type": "json_object", "json_schema": {"name": "a", "schema": {}}},
        {"type": "json_schema", "json_schema": {}},
        {"type": "json_schema", "json_schema": {"name": "a"}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": "x"}},
        {"type": "json_schema"},
        {"type": "text", "json_schema": {"name": "a", "schema": {}}},
        {},
        "text",
    ],
    "safety_identifier": [5],
    "seed": [2**63, 1.5, "x"],
    "service_tier": [5],
    "stop": ["", ["a"] * 5, [1], ["x" * 1000], 5],
    "store": [True, "x"],
    "stream": ["true", 1],
    "stream_options": [
        {"include_usage": True},
        {"include_obfuscation": True},
        {"x": 1},
        "x",
    ],
    "temperature": [-0.1, 2.1, "1", float("nan"), float("inf"), True],
    "tool_choice": ["required", FUNCTION],
    "tools": [[FUNCTION], "x", [FUNCTION] * 3],
    "top_logprobs": [5, 21, False],
    "top_p": [0, 1.1, "1"],
    "user": [5, "x" * 2000],
    "verbosity": ["low", "high"],
    "web_search_options": [{}, {"search_context_size": "low"}],
    "repetition_penalty": [1.1, 0],
    "top_k": [1, 50],
    "min_p": [0.1],
    "min_tokens": [1],
    "best_of": [2],
    "ignore_eos": [True],
    "chat_template": ["{{ x }}"],
    "echo": [True],
}
TAKEN_IN_A_MESSAGE: dict[str, list[Any]] = {
    "role": ["system", "developer", "user", "assistant"],
    "type": [None, "text"],
    "content": ["", "x", [], [{"type": "text", "text": "x"}]],
    "name": [None, "ann"],
    "refusal": [None],
    "annotations": [None, []],
    "audio": [None],
    "function_call": [None],
    "tool_calls": [None, []],
    "tool_call_id": [None],
}
REFUSED_IN_A_MESSAGE: dict[str, list[Any]] = {
    "role": ["tool", "function", "x", None, 5],
    "type": ["message", 5],
    "content": [
        None,
        5,
        {},
        [None],
        ["x"],
        [{"type": "image_url", "image_url": {"url": "x"}}],
        [{"type": "text"}],
    ],
    "name": [5, "x" * 2000],
    "refusal": ["no"],
    "annotations": [[{}]],
    "audio": [{"id": "x"}],
    "function_call": [{"name": "f", "arguments": ""}],
    "tool_calls": [[FUNCTION]],
    "tool_call_id": ["x"],
    "spoken": [True],
}
PYDANTICS_WORDS = (
    "Input",
    "input",
    "Tuple",
    "tuple",
    "ictionary",
    "Extra",
    "Field",
    "Value error",
    "None",
    "should",
    "items",
    "str",
    "int",
    "bool",
)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "tiny", "messages": [SAID], **fields}).encode()


def refused(given: bytes) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(Refusal) as refusal:
        parse_request(given)
    assert refusal.value.status == 400
    assert set(refusal.value.body()["error"]) == {"message", "type", "param", "code"}
    return str(refusal.value)


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, given, id=f"{name}={given!r}"[:50])
        for name, entries in table.items()
        for given in entries
    ]


def is_for_people(sentence: str, name: str) -> bool:
    """It names the field and the next step, and holds no word of the library behind it."""
    words = sentence.replace('"', " ").split()
    does = any(verb in words for verb in ("send", "leave"))
    return (
        name in sentence
        and does
        and not any(word in words for word in PYDANTICS_WORDS)
        and sentence.endswith(".")
        and len(sentence) < 250
    )


def test_the_tables_hold_every_field_of_the_official_client_and_of_this_endpoint() -> (
    None
):
    official = {
        *CompletionCreateParamsNonStreaming.__annotations__,
        *CompletionCreateParamsStreaming.__annotations__,
    }
    assert (
        official <= NEUTRAL.keys() == ChatRequest.model_fields.keys() <= REFUSED.keys()
    )
    kinds = (
        ChatCompletionAssistantMessageParam,
        ChatCompletionFunctionMessageParam,
        ChatCompletionToolMessageParam,
        ChatCompletionUserMessageParam,
    )
    in_a_message = {name for kind in kinds for name in kind.__annotations__}
    assert (
        in_a_message
        <= TAKEN_IN_A_MESSAGE.keys()
        == ChatMessage.model_fields.keys()
        <= REFUSED_IN_A_MESSAGE.keys()
    )
    assert (
        set(ChatCompletionStreamOptionsParam.__annotations__)
        == StreamOptions.model_fields.keys()
    )


@pytest.mark.parametrize(
    "kind",
    [
        ChatRequest,
        ChatMessage,
        StreamOptions,
        ResponseFormat,
        JsonSchemaFormat,
        TextPart,
    ],
)
def test_every_field_says_what_to_send(kind: type[ChatRequest]) -> None:
    assert all(field.description for field in kind.model_fields.values())


@pytest.mark.parametrize(("name", "given"), cases(NEUTRAL))
def test_what_changes_nothing_or_is_served_is_taken(name: str, given: Any) -> None:
    assert name in parse_request(body(**{name: given})).model_fields_set


@pytest.mark.parametrize(("name", "given"), cases(REFUSED))
def test_everything_else_is_refused_in_a_sentence_that_names_the_field(
    name: str, given: Any
) -> None:
    sentence = refused(body(**{name: given}))
    assert is_for_people(sentence, name), sentence


@pytest.mark.parametrize(("name", "given"), cases(TAKEN_IN_A_MESSAGE))
def test_what_a_message_may_hold_is_taken(name: str, given: Any) -> None:
    assert parse_request(body(messages=[{**SAID, name: given}]))


@pytest.mark.parametrize(("name", "given"), cases(REFUSED_IN_A_MESSAGE))
def test_what_a_message_may_not_hold_is_refused_by_its_place(
    name: str, given: Any
) -> None:
    sentence = refused(body(messages=[SAID, {**SAID, name: given}]))
    assert is_for_people(sentence, f"messages.1.{name}"), sentence


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            body(tools=[FUNCTION]),
            (
                "tools is a list of 1: tools are not served here, so leave it out or send an "
                "empty list."
            ),
        ),
        (
            body(top_logprobs=3),
            (
                "top_logprobs is 3, which stands beside tokens that are not asked for: "
                "send logprobs: true too."
            ),
        ),
        (
            body(metadata={"model": 5}),
            "metadata.model is 5: send an object whose values are texts.",
        ),
        (
            body(messages=[{"role": "user", "content": None}]),
            "messages.0.content is null: send a text, or a list of parts of type text.",
        ),
        (body(temperature=2.1), "temperature is 2.1: send a number from 0 to 2."),
        (body(chat_template="x"), "chat_template is not served here: leave it out."),
        (
            body(max_tokens=5, max_completion_tokens=6),
            (
                "max_tokens is 5 and max_completion_tokens is 6: they mean the same, so send one "
                "of them."
            ),
        ),
        (
            b'{"model": "tiny"}',
            "messages is missing: send a list of 1 to 1024 messages, each with role and content.",
        ),
        (
            b"[]",
            "The body is an empty list: send a JSON object with model and messages.",
        ),
        (b"5", "The body is 5: send a JSON object with model and messages."),
    ],
)
def test_a_refusal_reads_like_this(given: bytes, sentence: str) -> None:
    assert refused(given) == sentence


def test_both_names_of_the_token_limit_may_say_the_same() -> None:
    assert parse_request(body(max_tokens=5, max_completion_tokens=5)).token_limit == 5
    assert (
        parse_request(body(max_tokens=None, max_completion_tokens=6)).token_limit == 6
    )


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"{",
        b"\x00",
        b'{"model":"tiny"}{"model":"tiny"}',
        b"[" * 100_000,
        b'{"metadata":' + b'{"a":' * 100_000,
        b'{"messages":' + b"[" * 200 + b"]" * 200 + b"}",
        body().replace(b'"x"', b'"\xff"'),
        body().replace(b'"x"', b'"\xed\xa0\x80"'),
        body().replace(b'"x"', b'"\\ud800"'),
        body().replace(b'"x"', b'"\\udc00\\ud800"'),
        body().replace(b'"x"', b"'x'"),
        body(seed=1).replace(b"1}", b"9" * 100_000 + b"}"),
        body(seed=1).replace(b"1}", b"9" * 4_000 + b"}"),
        body(temperature=1).replace(b"1}", b"1e999}"),
        body(temperature=1).replace(b"1}", b"-Infinity}"),
        body(temperature=1).replace(b"1}", b"0x1}"),
        body(temperature=1).replace(b"1}", b"01}"),
        body().decode().encode("utf-16"),
        b"\xef\xbb\xbf" + body(),
        b"{/* no */" + body()[1:],
        body()[:-1] + b",}",
    ],
    ids=lambda given: repr(given[:12] + given[-24:]),
)
def test_what_is_no_json_of_this_kind_is_refused(given: bytes) -> None:
    assert is_for_people(refused(given), "")


def test_of_two_fields_of_one_name_the_last_one_counts_everywhere() -> None:
    """As Python's own reader has it: the endpoint rewrites a body so when the base answers."""
    given = b'{"model":"first",' + body()[1:]
    assert parse_request(given).model == json.loads(given)["model"] == "tiny"
