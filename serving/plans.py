"""What an engine is to do for a request, checked against its context before it does anything."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from pipelines.engines import Engine, Form, GenerationRequest
from pipelines.engines.refusal import Refusal
from serving.forms.chat import ChatForm
from serving.forms.common import AnswerForm, AnswerMetadata
from serving.forms.completion import CompletionForm, CompletionOptions
from serving.kept_forms import KeptForms, MakesForms
from serving.openai_schema.chat import ChatRequest
from serving.openai_schema.completions import CompletionRequest
from serving.prompts import EncodedPrompt, PromptEncoder

# Tokens of one request whose probabilities are given: each takes about 300 bytes of a response.
_MOST_SCORED_TOKENS = 65_536


@dataclass(frozen=True)
class Plan:
    """One request of the engine for each text, and how the answer is written."""

    requests: tuple[GenerationRequest, ...]
    form: AnswerForm


@dataclass(frozen=True)
class Turns:
    """What all releases of a process do one after the other: short requests find a thread."""

    forms: KeptForms
    long_prompt: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, engine: MakesForms) -> Self:
        """Those of an engine, and of all that are asked through it."""
        forms = KeptForms(engine)
        return cls(forms)


class Planner:
    """Plans the answers of one engine."""

    def __init__(self, engine: Engine, turns: Turns) -> None:
        self._engine = engine
        self._encoder = PromptEncoder(engine, turns.long_prompt)
        self._forms = turns.forms

    async def plan_chat(self, chat: ChatRequest) -> Plan:
        """Answers to a conversation; `Refusal` where they do not fit into the context."""
        engine = self._engine
        # Before the tokenizer runs: such a request fits with no prompt at all.
        self._check_limit(chat.token_limit)
        messages = [message.as_message() for message in chat.messages]
        prompt = await self._encoder.encode(messages, chat.model)
        max_tokens = self._fit(chat.model, len(prompt), chat.token_limit, "messages")
        request = replace(
            chat.to_generation(prompt, max_tokens),
            top_logprobs=chat.alternatives,
            form=await self._form(chat.answer_schema),
        )
        requests = chat.repeat(request)
        _check_scored(requests)
        form = ChatForm(
            AnswerMetadata.new("chatcmpl", chat.model, engine.specs[chat.model]),
            prompt_tokens=len(prompt),
            text_count=len(requests),
            has_logprobs=chat.alternatives is not None,
        )
        return Plan(requests, form)

    async def plan_completion(self, asked: CompletionRequest) -> Plan:
        """Texts that go on with prompts; `Refusal` where they do not fit into the context."""
        # As for conversations, before the tokenizer runs.
        self._check_limit(asked.max_tokens)
        prompts = await self._encoder.encode_plain(asked.prompt, asked.model)
        requests: list[GenerationRequest] = []
        for prompt in prompts:
            requests += asked.repeat(self._continue(asked, prompt))
        _check_scored(requests)
        options = CompletionOptions(
            has_logprobs=asked.logprobs is not None,
            echoes=asked.echo is True,
            repeats=asked.choice_count,
        )
        spec = self._engine.specs[asked.model]
        form = CompletionForm(
            AnswerMetadata.new("cmpl", asked.model, spec),
            [(prompt.text, len(prompt.ids)) for prompt in prompts],
            options,
        )
        return Plan(tuple(requests), form)

    async def _form(self, schema: str | None) -> Form | None:
        if schema is None:
            return None
        return await self._forms.of_json(schema)

    def _continue(
        self, asked: CompletionRequest, prompt: EncodedPrompt
    ) -> GenerationRequest:
        max_tokens = self._fit(asked.model, len(prompt.ids), asked.max_tokens, "prompt")
        has_logprobs = asked.logprobs is not None
        return replace(
            asked.to_generation(prompt.ids, max_tokens),
            top_logprobs=asked.logprobs,
            scores_prompt=has_logprobs and asked.echo is True,
        )

    def _check_limit(self, limit: int | None) -> None:
        most = self._engine.context_tokens
        if limit is not None and limit >= most:
            fact = f"max_tokens {limit} leaves no room for a prompt"
            raise self._context_error(fact, "max_tokens")

    def _fit(self, model: str, length: int, limit: int | None, param: str) -> int:
        """How many tokens an answer may have behind a prompt of that length."""
        room = self._engine.context_tokens - length
        what = "the messages have" if param == "messages" else "the prompt has"
        # A prompt that is only scored needs no room behind it.
        least_room = 0 if limit == 0 else 1
        if room < least_room:
            raise self._context_error(f"{what} {length}", param)
        if limit is not None and limit > room:
            fact = f"{what} {length} and max_tokens asks for {limit}"
            raise self._context_error(fact, "max_tokens")
        if limit is not None:
            return limit
        # The length of the scored answers, in a context that may be shorter.
        spec = self._engine.specs[model]
        return min(spec.default_max_tokens, room)

    def _context_error(self, fact: str, param: str) -> Refusal:
        return Refusal(
            f"The context holds {self._engine.context_tokens} tokens; {fact}. "
            "Shorten the one or the other.",
            code="context_length_exceeded",
            param=param,
        )


def _check_scored(requests: Sequence[GenerationRequest]) -> None:
    """Return only if the probabilities that are asked for fit into a response."""
    scored = [each for each in requests if each.top_logprobs is not None]
    count = sum(
        each.max_tokens + each.scores_prompt * len(each.prompt) for each in scored
    )
    if count > _MOST_SCORED_TOKENS:
        raise Refusal(
            f"logprobs asks for the probabilities of up to {count} tokens, and "
            f"{_MOST_SCORED_TOKENS} are given at once: send fewer or shorter prompts in a request.",
            param="logprobs",
        )
