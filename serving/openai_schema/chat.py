"""`POST /v1/chat/completions`: what a request may hold."""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError
from pydantic.json_schema import WithJsonSchema

from pipelines.engines.refusal import Refusal
from pipelines.values.dataset import Message, Role
from serving.openai_schema.answer_schema import check_answer_schema
from serving.openai_schema.fields import (
    Empty,
    Label,
    NoEntries,
    OnlyText,
    Tokens,
    WireValue,
    optional,
    unserved,
)
from serving.openai_schema.generation import GenerationFields, check_stream_options
from serving.openai_schema.refusals import explain_refusal

_MOST_ALTERNATIVES = 20
_ANY_OBJECT = {"type": "object"}


def _as_parts(content: Any) -> Any:
    """One form for OpenAI's two (a text, a list of parts), so that errors name the wrong part."""
    if isinstance(content, str):
        return (TextPart(type="text", text=content),)
    # Anything else stays as it is, for pydantic to refuse.
    return tuple(content) if isinstance(content, list) else content


class TextPart(WireValue):
    """A piece of a message. Images and sound are not served."""

    type: Literal["text"] = Field(
        description="only text is served, so send parts of type text"
    )
    text: str = Field(description="send a text")


_TEXT_OR_PARTS = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "text"},
                        "text": {"type": "string"},
                    },
                    "required": ["type", "text"],
                    "additionalProperties": False,
                },
            },
        ]
    }
)


class ChatMessage(WireValue):
    """One turn.

    Fields that are taken only when they are empty are echoed by clients from an earlier answer.
    """

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="send system, developer, user or assistant, "
        "since tools are not served here"
    )
    content: Annotated[
        tuple[TextPart, ...], BeforeValidator(_as_parts), _TEXT_OR_PARTS
    ] = Field(description="send a text, or a list of parts of type text")
    # lm-evaluation-harness says it of every message.
    type: Literal["text"] | None = unserved("only text is served", '"text"')
    # Of the speaker: taken and dropped, since chat templates do not show it.
    name: Label | None = optional("send a text of up to 512 characters")
    refusal: None = unserved("refusals of earlier answers are not read here", "null")
    annotations: Empty | None = unserved(
        "annotations are not read here", "an empty list"
    )
    audio: None = unserved("sound is not served here", "null")
    function_call: None = unserved("functions are not served here", "null")
    tool_calls: Empty | None = unserved("tools are not served here", "an empty list")
    tool_call_id: None = unserved("tools are not served here", "null")

    def as_message(self) -> Message:
        """The turn as the rows of a dataset hold it."""
        # OpenAI's newer models call it developer; chat templates know system.
        role: Role = "system" if self.role == "developer" else self.role
        text = "".join(part.text for part in self.content)
        return Message(role=role, content=text)


class JsonSchemaFormat(WireValue):
    """A JSON Schema that an answer must match."""

    name: Label = Field(description="send a text of up to 512 characters")
    described: dict[str, Any] = Field(
        alias="schema", description="send a JSON Schema as an object"
    )
    description: Label | None = optional("send a text of up to 512 characters")
    # An answer always matches: less than that is not served, and changes no request.
    strict: bool | None = optional("send true or false")


class ResponseFormat(WireValue):
    """Text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"] = Field(
        description="send text, json_object or json_schema",
    )
    json_schema: JsonSchemaFormat | None = optional(
        'send an object such as {"name": "answer", "schema": {…}}'
    )


class ChatRequest(GenerationFields):
    """`POST /v1/chat/completions`. Each description says to people what to send in that field."""

    messages: Annotated[
        tuple[ChatMessage, ...], Field(min_length=1, max_length=1024)
    ] = Field(
        description="send a list of 1 to 1024 messages, each with role and content"
    )
    max_completion_tokens: Tokens | None = optional(
        "send a whole number from 1 to 1000000"
    )
    logprobs: bool | None = optional("send true or false")
    top_logprobs: Annotated[int, Field(ge=0, le=_MOST_ALTERNATIVES)] | None = optional(
        f"send a whole number from 0 to {_MOST_ALTERNATIVES}, and logprobs: true"
    )
    response_format: ResponseFormat | None = optional(
        'send {"type": "text"}, {"type": "json_object"}, or type json_schema with a schema'
    )
    # Taken only with the setting that changes nothing.
    modalities: OnlyText | None = unserved("only text is answered here", '["text"]')
    audio: None = unserved("sound is not served here")
    moderation: None = unserved("moderation is not served here")
    prediction: None = unserved("a predicted answer is not used here")
    reasoning_effort: Literal["none"] | None = unserved(
        "reasoning is not served here", '"none"'
    )
    verbosity: Literal["medium"] | None = unserved(
        "the length of answers is not steered here except by max_tokens", '"medium"'
    )
    web_search_options: None = unserved("web search is not served here")
    store: Literal[False] | None = unserved("answers are not stored here", "false")
    prompt_cache_options: NoEntries | None = unserved(
        "caching of prompts is not steered here", "an empty object"
    )
    tools: Empty | None = unserved("tools are not served here", "an empty list")
    functions: Empty | None = unserved("functions are not served here", "an empty list")
    # Without tools these choose between nothing and nothing.
    tool_choice: Literal["none", "auto"] | None = unserved(
        "tools are not served here", '"none" or "auto"'
    )
    function_call: Literal["none", "auto"] | None = unserved(
        "functions are not served here", '"none" or "auto"'
    )
    parallel_tool_calls: bool | None = optional("send true or false")
    # Labels: taken and dropped.
    metadata: dict[str, str] | None = optional("send an object whose values are texts")
    service_tier: Label | None = optional("send a text of up to 512 characters")
    safety_identifier: Label | None = optional("send a text of up to 512 characters")
    prompt_cache_key: Label | None = optional("send a text of up to 512 characters")
    prompt_cache_retention: Label | None = optional(
        "send a text of up to 512 characters"
    )

    @property
    def token_limit(self) -> int | None:
        """The longest answer that the client asks for, under either of its names, in tokens."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many likely tokens beside each token; None: no probabilities."""
        if not self.logprobs:
            return None
        return self.top_logprobs or 0

    @property
    def answer_schema(self) -> str | None:
        """The JSON Schema of the answer, as JSON; None: any text."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.json_schema is None:
            return json.dumps(_ANY_OBJECT)
        return json.dumps(wanted.json_schema.described)


def parse_request(body: bytes) -> ChatRequest:
    """Read a body.

    `Refusal` where it is no such request: NaN, surrogates and unknown fields included. The parser
    itself bounds the depth.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise explain_refusal(error, ChatRequest) from error
    _check_limits_agree(request.max_tokens, request.max_completion_tokens)
    _check_probabilities(request)
    _check_format(request.response_format)
    check_stream_options(request)
    return request


def _check_limits_agree(old_name: int | None, new_name: int | None) -> None:
    if old_name is None or new_name is None:
        return
    if old_name != new_name:
        raise Refusal(
            f"max_tokens is {old_name} and max_completion_tokens is {new_name}: "
            "they mean the same, so send one of them.",
            param="max_tokens",
        )


def _check_probabilities(request: ChatRequest) -> None:
    if request.top_logprobs and not request.logprobs:
        raise Refusal(
            f"top_logprobs is {request.top_logprobs}, which stands beside tokens that are not "
            "asked for: send logprobs: true too.",
            param="top_logprobs",
        )


def _check_format(wanted: ResponseFormat | None) -> None:
    if wanted is None:
        return
    has_schema = wanted.json_schema is not None
    wants_schema = wanted.type == "json_schema"
    if has_schema != wants_schema:
        fact = "holds" if has_schema else "does not hold"
        raise Refusal(
            f"response_format is of type {wanted.type} and {fact} json_schema: "
            'send {"type": "text"}, {"type": "json_object"}, or type json_schema with a schema.',
            param="response_format",
        )
    if wanted.json_schema is not None:
        check_answer_schema(wanted.json_schema.described)
