"""JSON through the HTTP interface, as OpenAI's own client asks for it."""

import json
from typing import Any, Literal

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field

from tests.support.running_engine import Endpoint

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "which?"}]
TOKENS = 200
"""More than the longest answer."""
SWITCH = {
    "type": "object",
    "properties": {"name": {"enum": ["light", "heat"]}, "is_on": {"type": "boolean"}},
    "required": ["name", "is_on"],
    "additionalProperties": False,
}


class Switch(BaseModel):
    name: Literal["light", "heat"]
    is_on: bool
    parts: list["Switch"] = Field(max_length=0)


def json_of(schema: dict[str, Any]) -> Any:
    described = {"name": "switch", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": described}


def is_switch(text: str | None) -> bool:
    document = json.loads(text or "")
    has_both = set(document) == {"name", "is_on"}
    return has_both and document["name"] in {"light", "heat"}


def test_openais_client_gets_json_of_its_schema(endpoint: Endpoint) -> None:
    answer = endpoint.client.chat.completions.create(
        model="tuned",
        messages=QUESTION,
        max_tokens=TOKENS,
        response_format=json_of(SWITCH),
        temperature=1,
        seed=1,
        n=2,
        logprobs=True,
    )
    texts = [choice.message.content for choice in answer.choices]
    assert all(is_switch(text) for text in texts)
    assert texts[0] != texts[1]
    for choice, text in zip(answer.choices, texts, strict=True):
        assert choice.finish_reason == "stop"
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(token.token for token in tokens) == text


@pytest.mark.ci
def test_openais_client_parses_it_into_a_model(endpoint: Endpoint) -> None:
    answer = endpoint.client.chat.completions.parse(
        model="tuned", messages=QUESTION, max_tokens=TOKENS, response_format=Switch
    )
    assert isinstance(answer.choices[0].message.parsed, Switch)


@pytest.mark.ci
def test_a_stream_of_json_is_the_same_json(endpoint: Endpoint) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": QUESTION,
        "max_tokens": TOKENS,
        "response_format": json_of(SWITCH),
    }
    whole = endpoint.client.chat.completions.create(**asked)
    chunks = list(endpoint.client.chat.completions.create(**asked, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert is_switch(text)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_without_a_schema_it_is_an_object_or_says_that_it_was_cut(
    endpoint: Endpoint,
) -> None:
    answer = endpoint.client.chat.completions.create(
        model="tiny",
        messages=QUESTION,
        max_tokens=TOKENS,
        response_format={"type": "json_object"},
    )
    (choice,) = answer.choices
    text = choice.message.content or ""
    assert text.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("schema", "fact"),
    [
        ({"$ref": "http://127.0.0.1:1/x.json"}, "nothing is fetched"),
        ({"not": {"type": "string"}}, '"not"'),
        ({"type": "array", "minItems": 5, "maxItems": 1}, "minItems"),
    ],
)
def test_a_schema_that_is_not_taken_is_a_400_in_a_sentence(
    endpoint: Endpoint, schema: dict[str, Any], fact: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=fact) as error:
        endpoint.client.chat.completions.create(
            model="tuned", messages=QUESTION, response_format=json_of(schema)
        )
    assert error.value.param == "response_format"


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_that_is_too_complex_halfway_is_an_error_of_the_request(
    endpoint: Endpoint, stream: bool
) -> None:
    properties = {f"p{number}": {"type": "integer"} for number in range(700)}
    schema = {"type": "object", "properties": properties}
    asked: dict[str, Any] = {
        "model": "tuned",
        "messages": QUESTION,
        "response_format": json_of(schema),
    }
    ask = endpoint.client.chat.completions.create
    with pytest.raises(openai.APIError, match="too complex") as error:
        list(ask(**asked, stream=stream))
    assert error.value.param == "response_format"
    assert error.value.code == "schema_too_complex"
