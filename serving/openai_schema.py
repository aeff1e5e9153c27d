"""OpenAI's wire format, as far as it is served: closed, and bounded before anything is computed.

A field that would change the answer and is not served is refused by name, unless it carries the setting that changes nothing.
Fields that only label a request (`user`, `metadata`, …) are taken and dropped.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_serializer

from pipelines.dataset import Message, Role
from pipelines.serving_spec import ServingSpec
from pipelines.value import first_problem
from serving.engines import Finished, Order
from serving.refusal import Refusal

MAX_BODY_BYTES = 1_000_000
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000)]
Zero = Annotated[float, Field(ge=0, le=0)]
Empty = Annotated[tuple[Any, ...], Field(max_length=0)]
NoEntries = Annotated[dict[str, Any], Field(max_length=0)]
# Below it only the likeliest token is ever drawn, and numbers divided by it leave the range of float32.
LEAST_TEMPERATURE = 1e-5


class _Wire(BaseModel):
    """Strict: a number in quotes is no number, and `true` is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class TextPart(_Wire):
    """A piece of a message. Images and sound are not served."""

    type: Literal["text"]
    text: str


def _as_parts(content: Any) -> Any:
    """OpenAI takes a text or a list of parts; one form inside makes the error messages say what is wrong."""
    if isinstance(content, str):
        return (TextPart(type="text", text=content),)
    return tuple(content) if isinstance(content, list) else content


def _as_tuple(stop: Any) -> Any:
    if isinstance(stop, str):
        return (stop,)
    return tuple(stop) if isinstance(stop, list) else stop


class ChatMessage(_Wire):
    """One turn. The fields that are always null are what clients echo from an earlier answer."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[tuple[TextPart, ...], BeforeValidator(_as_parts)]
    refusal: None = None
    annotations: Empty | None = None
    audio: None = None
    function_call: None = None
    name: None = None
    tool_calls: Empty | None = None
    tool_call_id: None = None

    def as_message(self) -> Message:
        """The turn as the rows of a dataset hold it."""
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role=role, content="".join(part.text for part in self.content))


class StreamOptions(_Wire):
    """Whether a stream ends with a chunk that counts tokens."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TextFormat(_Wire):
    """Answers are text."""

    type: Literal["text"]


class ChatRequest(_Wire):
    """`POST /v1/chat/completions`."""

    model: Annotated[str, Field(max_length=1000)]
    messages: Annotated[tuple[ChatMessage, ...], Field(min_length=1, max_length=1024)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    stop: Annotated[tuple[Stop, ...], Field(max_length=4), BeforeValidator(_as_tuple)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Taken only with the setting that changes nothing.
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    logit_bias: NoEntries | None = None
    response_format: TextFormat | None = None
    modalities: Annotated[tuple[Literal["text"]], BeforeValidator(_as_tuple)] | None = None
    audio: None = None
    moderation: None = None
    prediction: None = None
    reasoning_effort: None = None
    verbosity: None = None
    web_search_options: None = None
    tools: Empty | None = None
    functions: Empty | None = None
    # Without tools these choose between nothing and nothing.
    tool_choice: Literal["none", "auto"] | None = None
    function_call: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    # Labels: taken and dropped.
    user: Annotated[str, Field(max_length=512)] | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: None = None
    prompt_cache_retention: str | None = None

    @property
    def token_limit(self) -> int | None:
        """What the client asks for, under either of its names."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    def order(self, prompt: Sequence[int], max_tokens: int) -> Order:
        """What the engine is to make; without a temperature the answer is greedy, as the scored ones are."""
        temperature = self.temperature or 0.0
        return Order(
            model=self.model,
            prompt=tuple(prompt),
            max_tokens=max_tokens,
            temperature=temperature if temperature >= LEAST_TEMPERATURE else 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            stop=self.stop or (),
            seed=self.seed,
        )


class Usage(_Wire):
    """Tokens of prompt and answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(_Wire):
    """The answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(_Wire):
    """The only choice."""

    index: Literal[0] = 0
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(_Wire):
    """A whole answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[Choice]
    usage: Usage


class Delta(_Wire):
    """What a chunk adds; on the wire only that."""

    role: Literal["assistant"] | None = None
    content: str | None = None

    @model_serializer
    def _only_what_is_new(self) -> dict[str, str]:
        return {name: text for name, text in (("role", self.role), ("content", self.content)) if text is not None}


class ChunkChoice(_Wire):
    """The only choice of a chunk."""

    index: Literal[0] = 0
    delta: Delta
    logprobs: None = None
    finish_reason: Literal["stop", "length"] | None = None


class ChatChunk(_Wire):
    """A piece of an answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: tuple[ChunkChoice, ...]
    usage: Usage | None = None


class ModelCard(_Wire):
    """One name under which something answers, and what that is."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["assay"] = "assay"
    system_fingerprint: str
    spec: ServingSpec


class ModelList(_Wire):
    """`GET /v1/models`."""

    object: Literal["list"] = "list"
    data: tuple[ModelCard, ...]


def parse_request(body: bytes) -> ChatRequest:
    """Read a body; the parser itself bounds the depth, and NaN, surrogates and unknown fields are a `Refusal`."""
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refused(error) from error
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise Refusal("max_tokens and max_completion_tokens say the same thing. Send one of them.", param="max_tokens")
    if request.stream_options is not None and not request.stream:
        raise Refusal("stream_options needs stream: true.", param="stream_options")
    return request


def usage(prompt_tokens: int, finished: Finished) -> Usage:
    """Count prompt and answer."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=finished.completion_tokens,
        total_tokens=prompt_tokens + finished.completion_tokens,
    )


def _refused(error: ValidationError) -> Refusal:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = str(problem["loc"][0]) if problem["loc"] else None
    if problem["type"] in {"extra_forbidden", "none_required"}:
        where = ".".join(str(part) for part in problem["loc"])
        return Refusal(f"This endpoint does not serve {where[:100]}. Leave it out.", code="unsupported_parameter", param=where[:100])
    return Refusal(f"The request does not fit: {first_problem(error)[:300]}.", code="invalid_value", param=param)
