"""OpenAI's wire format, as far as it is served: closed, and bounded before anything is computed.

A field that would change the answer and is not served is refused by name, unless it carries the
setting that changes nothing. Fields that only label a request (`user`, `metadata`, …) are taken
and dropped.
"""

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipelines.values.dataset import Message, Role
from pipelines.values.serving_spec import ServingSpec
from serving.engines import Finished, GenerationRequest
from serving.refusal import Refusal

MAX_BODY_BYTES = 1_000_000
# Safe in a URL, in a log line and as a command's argument.
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Label = Annotated[str, Field(max_length=512)]
# Ranges of a single number: the setting that changes nothing, in the type of its field.
Zero = Annotated[float, Field(ge=0, le=0)]
WholeZero = Annotated[int, Field(ge=0, le=0)]
One = Annotated[float, Field(ge=1, le=1)]
WholeOne = Annotated[int, Field(ge=1, le=1)]
Empty = Annotated[tuple[Any, ...], Field(max_length=0)]
NoEntries = Annotated[dict[str, Any], Field(max_length=0)]
# Below it only the likeliest token is ever drawn, and numbers divided by it leave the range of
# float32.
LEAST_TEMPERATURE = 1e-5
# Characters of a value that an error message quotes.
_LONGEST_SHOWN = 40


class WireValue(BaseModel):
    """Strict: a number in quotes is no number, and `true` is not 1."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True
    )


def _as_parts(content: Any) -> Any:
    """One form for OpenAI's two (a text, a list of parts), so that errors name the wrong part."""
    if isinstance(content, str):
        return (TextPart(type="text", text=content),)
    # Anything else stays as it is, for pydantic to refuse.
    return tuple(content) if isinstance(content, list) else content


def _as_tuple(stop: Any) -> Any:
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


def _optional(advice: str) -> Any:
    """A field that may be left out; `advice` says to people what to send."""
    return Field(None, description=advice)


def _unserved(reason: str, neutral: str = "") -> Any:
    """A field that may be left out, and is otherwise taken only as `neutral`."""
    advice = f"leave it out or send {neutral}" if neutral else "leave it out"
    return Field(
        None,
        description=f"{reason}, so {advice}",
        json_schema_extra={"is_served": False},
    )


class TextPart(WireValue):
    """A piece of a message. Images and sound are not served."""

    type: Literal["text"] = Field(
        description="only text is served, so send parts of type text"
    )
    text: str = Field(description="send a text")


class ChatMessage(WireValue):
    """One turn.

    Fields that are taken only when they are empty are echoed by clients from an earlier answer.
    """

    role: Literal["system", "developer", "user", "assistant"] = Field(
        description="send system, developer, user or assistant, "
        "since tools are not served here"
    )
    content: Annotated[tuple[TextPart, ...], BeforeValidator(_as_parts)] = Field(
        description="send a text, or a list of parts of type text"
    )
    # Of the speaker: taken and dropped, since chat templates do not show it.
    name: Label | None = _optional("send a text of up to 512 characters")
    refusal: None = _unserved("refusals of earlier answers are not read here", "null")
    annotations: Empty | None = _unserved(
        "annotations are not read here", "an empty list"
    )
    audio: None = _unserved("sound is not served here", "null")
    function_call: None = _unserved("functions are not served here", "null")
    tool_calls: Empty | None = _unserved("tools are not served here", "an empty list")
    tool_call_id: None = _unserved("tools are not served here", "null")

    def as_message(self) -> Message:
        """The turn as the rows of a dataset hold it."""
        # OpenAI's newer models call it developer; chat templates know system.
        role: Role = "system" if self.role == "developer" else self.role
        text = "".join(part.text for part in self.content)
        return Message(role=role, content=text)


class StreamOptions(WireValue):
    """Whether a stream ends with a chunk that counts tokens."""

    include_usage: bool | None = _optional("send true or false")
    include_obfuscation: Literal[False] | None = _unserved(
        "padding of chunks is not served here", "false"
    )


class TextFormat(WireValue):
    """Answers are text."""

    type: Literal["text"] = Field(
        description="only text is answered here, "
        'so leave it out or send {"type": "text"}',
        json_schema_extra={"is_served": False},
    )


class ChatRequest(WireValue):
    """`POST /v1/chat/completions`. Each description says to people what to send in that field."""

    model: Annotated[str, Field(max_length=1000)] = Field(
        description="send the name of a served model, which GET /v1/models lists"
    )
    messages: Annotated[
        tuple[ChatMessage, ...], Field(min_length=1, max_length=1024)
    ] = Field(
        description="send a list of 1 to 1024 messages, each with role and content"
    )
    max_tokens: Tokens | None = _optional("send a whole number from 1 to 1000000")
    max_completion_tokens: Tokens | None = _optional(
        "send a whole number from 1 to 1000000"
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = _optional(
        "send a number from 0 to 2"
    )
    top_p: Annotated[float, Field(gt=0, le=1)] | None = _optional(
        "send a number over 0 and up to 1"
    )
    stop: (
        Annotated[tuple[Stop, ...], Field(max_length=4), BeforeValidator(_as_tuple)]
        | None
    ) = _optional("send a text of 1 to 256 characters, or a list of up to 4 of them")
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = _optional(
        "send a whole number of 64 bits"
    )
    stream: bool | None = _optional("send true or false")
    stream_options: StreamOptions | None = _optional(
        'send an object such as {"include_usage": true}'
    )
    # Taken only with the setting that changes nothing.
    n: WholeOne | None = _unserved("one answer is given to a request", "1")
    best_of: WholeOne | None = _unserved("one answer is made for a request", "1")
    frequency_penalty: Zero | None = _unserved("penalties are not served here", "0")
    presence_penalty: Zero | None = _unserved("penalties are not served here", "0")
    repetition_penalty: One | None = _unserved("penalties are not served here", "1")
    top_k: Literal[-1, 0] | None = _unserved(
        "a cut by rank is not served here", "0 or -1"
    )
    min_p: Zero | None = _unserved(
        "a cut by probability is not served here except top_p", "0"
    )
    min_tokens: WholeZero | None = _unserved("a least length is not served here", "0")
    ignore_eos: Literal[False] | None = _unserved(
        "an answer always ends where the model ends it", "false"
    )
    logprobs: Literal[False] | None = _unserved(
        "log probabilities are not served here", "false"
    )
    top_logprobs: WholeZero | None = _unserved(
        "log probabilities are not served here", "0"
    )
    logit_bias: NoEntries | None = _unserved(
        "a bias on tokens is not served here", "an empty object"
    )
    response_format: TextFormat | None = _unserved(
        "only text is answered here", '{"type": "text"}'
    )
    modalities: Annotated[tuple[Literal["text"]], BeforeValidator(_as_tuple)] | None = (
        _unserved("only text is answered here", '["text"]')
    )
    audio: None = _unserved("sound is not served here")
    moderation: None = _unserved("moderation is not served here")
    prediction: None = _unserved("a predicted answer is not used here")
    reasoning_effort: Literal["none"] | None = _unserved(
        "reasoning is not served here", '"none"'
    )
    verbosity: Literal["medium"] | None = _unserved(
        "the length of answers is not steered here except by max_tokens", '"medium"'
    )
    web_search_options: None = _unserved("web search is not served here")
    store: Literal[False] | None = _unserved("answers are not stored here", "false")
    prompt_cache_options: NoEntries | None = _unserved(
        "caching of prompts is not steered here", "an empty object"
    )
    tools: Empty | None = _unserved("tools are not served here", "an empty list")
    functions: Empty | None = _unserved(
        "functions are not served here", "an empty list"
    )
    # Without tools these choose between nothing and nothing.
    tool_choice: Literal["none", "auto"] | None = _unserved(
        "tools are not served here", '"none" or "auto"'
    )
    function_call: Literal["none", "auto"] | None = _unserved(
        "functions are not served here", '"none" or "auto"'
    )
    parallel_tool_calls: bool | None = _optional("send true or false")
    # Labels: taken and dropped.
    user: Label | None = _optional("send a text of up to 512 characters")
    metadata: dict[str, str] | None = _optional("send an object whose values are texts")
    service_tier: Label | None = _optional("send a text of up to 512 characters")
    safety_identifier: Label | None = _optional("send a text of up to 512 characters")
    prompt_cache_key: Label | None = _optional("send a text of up to 512 characters")
    prompt_cache_retention: Label | None = _optional(
        "send a text of up to 512 characters"
    )

    @property
    def token_limit(self) -> int | None:
        """The longest answer that the client asks for, under either of its names, in tokens."""
        if self.max_completion_tokens is not None:
            return self.max_completion_tokens
        return self.max_tokens

    @property
    def includes_usage(self) -> bool:
        """Whether a stream is to end with a chunk that counts tokens."""
        if self.stream_options is None:
            return False
        return self.stream_options.include_usage is True

    def to_generation(
        self, prompt: Sequence[int], max_tokens: int
    ) -> GenerationRequest:
        """The engine's request. Without a temperature it is greedy, as the scored answers are."""
        temperature = self.temperature or 0.0
        samples = temperature >= LEAST_TEMPERATURE
        return GenerationRequest(
            model=self.model,
            prompt=tuple(prompt),
            max_tokens=max_tokens,
            temperature=temperature if samples else 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=self.stop or (),
            seed=self.seed,
        )


class Usage(WireValue):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(WireValue):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(WireValue):
    """The only choice."""

    index: Literal[0] = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(WireValue):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice]
    usage: Usage


class Delta(WireValue):
    """What a chunk adds; on the wire only that."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _only_what_is_new(self) -> dict[str, str]:
        fields = {
            "role": self.role,
            "content": self.content,
        }
        return {name: text for name, text in fields.items() if text is not None}


class ChunkChoice(WireValue):
    """The only choice of a chunk."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(WireValue):
    """A piece of an answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class ModelCard(WireValue):
    """One name under which something answers, and what that is."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["assay"] = "assay"
    system_fingerprint: str
    spec: ServingSpec


class ModelList(WireValue):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: tuple[ModelCard, ...]


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
    if request.includes_usage and not request.stream:
        raise Refusal(
            "stream_options asks for usage, which only a stream leaves out: "
            "send stream: true too.",
            param="stream_options",
        )
    return request


def count_usage(prompt_tokens: int, finished: Finished) -> Usage:
    """Tokens of prompt and answer, and their sum."""
    completion_tokens = finished.completion_tokens
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
    )


def _check_limits_agree(old_name: int | None, new_name: int | None) -> None:
    if old_name is None or new_name is None:
        return
    if old_name != new_name:
        raise Refusal(
            f"max_tokens is {old_name} and max_completion_tokens is {new_name}: "
            "they mean the same, so send one of them.",
            param="max_tokens",
        )


def explain_refusal(error: ValidationError, schema: type[BaseModel]) -> Refusal:
    """The first problem in one sentence for people: the field, what it is, what to send."""
    problem = error.errors(include_url=False)[0]
    path = tuple(problem["loc"])
    if not path:
        needed = [
            name for name, each in schema.model_fields.items() if each.is_required()
        ]
        return Refusal(
            f"The body is {_describe_body_fault(problem)}: "
            f"send a JSON object with {' and '.join(needed)}.",
            code="invalid_json",
        )
    # A path may hold names that the client made up, of any length.
    where = ".".join(str(part) for part in path)[:100]
    if problem["type"] == "extra_forbidden":
        return Refusal(
            f"{where} is not served here: leave it out.",
            code="unsupported_parameter",
            param=where,
        )
    field = _field_at(schema, path)
    if problem["type"] == "missing":
        return Refusal(
            f"{where} is missing: {field.description}.",
            code="invalid_value",
            param=str(path[0]),
        )
    # `_unserved` marks its fields.
    is_served = not isinstance(field.json_schema_extra, dict)
    value = _describe_value(problem["input"])
    return Refusal(
        f"{where} is {value}: {field.description}.",
        code="invalid_value" if is_served else "unsupported_parameter",
        param=str(path[0]),
    )


def _describe_body_fault(problem: ErrorDetails) -> str:
    if problem["type"] != "json_invalid":
        return _describe_value(problem["input"])
    context = problem.get("ctx", {})
    fault = str(context.get("error", ""))
    return f"not valid JSON ({fault[:100]})"


def _field_at(schema: type[BaseModel], path: Sequence[int | str]) -> FieldInfo:
    """The innermost field of the request on that path."""
    model = schema
    field = next(iter(schema.model_fields.values()))
    for name in path:
        if isinstance(name, str) and name in model.model_fields:
            field = model.model_fields[name]
            model = _MODEL_OF_FIELD.get(name, model)
    return field


def _describe_value(value: Any) -> str:
    """What was sent, short enough for a sentence."""
    if isinstance(value, str):
        if len(value) > _LONGEST_SHOWN:
            return f"a text of {len(value)} characters"
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    # Python refuses to print integers of thousands of digits.
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_SHOWN:
        return "a number that is too large"
    return json.dumps(value)


# Fields that hold objects, and the models of those.
_MODEL_OF_FIELD: dict[str, type[BaseModel]] = {
    "messages": ChatMessage,
    "content": TextPart,
    "stream_options": StreamOptions,
    "response_format": TextFormat,
}
