"""`POST /v1/completions`: what a request may hold. Its prompts are no conversations."""

from typing import Annotated, Any

from pydantic import Field, PlainValidator, ValidationError
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from pipelines.engines.refusal import Refusal
from serving.openai_schema.fields import ManyStops, optional, unserved
from serving.openai_schema.generation import GenerationFields, check_stream_options
from serving.openai_schema.refusals import explain_refusal

Prompt = str | tuple[int, ...]
MOST_PROMPTS = 128
_MOST_TEXTS = 128
_MOST_ALTERNATIVES = 5
_LARGEST_ID = 2**31 - 1


def _read_prompts(given: Any) -> tuple[Prompt, ...]:
    """One form for four: a text, texts, the token ids of one prompt, those of several."""
    is_one = isinstance(given, str) or _are_ids(given)
    prompts = [given] if is_one else given
    if not isinstance(prompts, list):
        raise _no_prompt_error()
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise _no_prompt_error()
    return tuple(_as_prompt(each) for each in prompts)


def _as_prompt(given: Any) -> Prompt:
    if isinstance(given, str):
        return given
    if not _are_ids(given):
        raise _no_prompt_error()
    return tuple(given)


def _are_ids(given: Any) -> bool:
    if not isinstance(given, list) or not given:
        return False
    return all(_is_id(each) for each in given)


def _is_id(given: Any) -> bool:
    # `type` and not isinstance: true is no token.
    if type(given) is not int:
        return False
    return 0 <= given <= _LARGEST_ID


def _no_prompt_error() -> PydanticCustomError:
    return PydanticCustomError("prompt", "neither texts nor token ids")


_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_PROMPTS_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 1,
            "maxItems": MOST_PROMPTS,
        },
        _IDS,
        {"type": "array", "items": _IDS, "minItems": 1, "maxItems": MOST_PROMPTS},
    ]
}
Prompts = Annotated[
    tuple[Prompt, ...],
    PlainValidator(_read_prompts),
    WithJsonSchema(_PROMPTS_SCHEMA),
]


class CompletionRequest(GenerationFields):
    """`POST /v1/completions`. Each description says to people what to send in that field."""

    prompt: Prompts = Field(
        description="send a text, the token ids of one, "
        f"or a list of up to {MOST_PROMPTS} of either"
    )
    max_tokens: Annotated[int, Field(ge=0, le=1_000_000)] | None = optional(
        "send a whole number from 0 to 1000000"
    )
    stop: ManyStops | None = optional(
        "send a text of 1 to 256 characters, or a list of up to 16 of them"
    )
    echo: bool | None = optional("send true or false")
    logprobs: Annotated[int, Field(ge=0, le=_MOST_ALTERNATIVES)] | None = optional(
        f"send a whole number from 0 to {_MOST_ALTERNATIVES}"
    )
    suffix: None = unserved("text is continued here, not filled in", "null")


def parse_completion(body: bytes) -> CompletionRequest:
    """Read a body; `Refusal` where it is no such request, as `parse_request` does."""
    try:
        request = CompletionRequest.model_validate_json(body)
    except ValidationError as error:
        raise explain_refusal(error, CompletionRequest) from error
    count = len(request.prompt) * request.choice_count
    if count > _MOST_TEXTS:
        raise Refusal(
            f"{len(request.prompt)} prompts with n {request.choice_count} are {count} texts, and "
            f"{_MOST_TEXTS} are given at once: send fewer prompts in a request.",
            param="prompt",
        )
    if request.max_tokens == 0 and not request.echo:
        raise Refusal(
            "max_tokens is 0, which gives no text at all: send echo: true too, or at least 1.",
            param="max_tokens",
        )
    check_stream_options(request)
    return request
