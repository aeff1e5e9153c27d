"""One system's answers to prompts, and the losses of their references: what `score` reads."""

import math
from collections.abc import Sequence
from pathlib import Path

from core.errors import IncompleteEvidence, IncompleteGeneration, UnusableRow
from core.files import digest_of_json, write_jsonl
from core.progress import progress_bar
from core.value import FileDigest, Value
from pipelines.models.chat import ChatEncoder
from pipelines.models.language_model import LanguageModel, completion_losses, generate
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt, text_of
from pipelines.values.evidence import Completion, Completions, System, TokenLoss
from pipelines.values.params import GenerationParams
from pipelines.values.serving_spec import ServingSpec

Turns = tuple[Message, ...]


class Identity(Value):
    """Who answers: the system, its adapter, and the examples that stand before each prompt."""

    system: System
    base: BaseModelManifest
    adapter_sha256: str | None = None
    examples: Turns = ()

    def spec(self, params: GenerationParams) -> ServingSpec:
        """What answers under these parameters."""
        return ServingSpec.of_transformers(
            self.base, params.precision, params.max_new_tokens
        ).with_adapter(self.adapter_sha256)


def answer(
    identity: Identity,
    language: LanguageModel,
    prompts: Sequence[Prompt],
    params: GenerationParams,
    out: Path,
) -> Completions:
    """Answer every prompt once and score every reference; written below `out` as `SYSTEM.{answers,losses}.jsonl` and `SYSTEM.json`."""
    encoded = [
        language.encoder.prompt_ids(with_examples(prompt.messages, identity.examples))
        for prompt in prompts
    ]
    check_lengths(language, prompts, encoded, params)
    answers = _answers(language, prompts, encoded, params, identity.system)
    losses = _losses(language, prompts, encoded, params, identity.system)
    paths = {
        kind: out / f"{identity.system}.{kind}.jsonl" for kind in ("answers", "losses")
    }
    write_jsonl(paths["answers"], (row.model_dump() for row in answers))
    write_jsonl(paths["losses"], (row.model_dump() for row in losses))
    completions = Completions(
        system=identity.system,
        spec=identity.spec(params),
        prompt_prefix_sha256=digest_of_json(
            [turn.model_dump() for turn in identity.examples]
        )
        if identity.examples
        else None,
        prompts_sha256=digest_of_json([prompt.model_dump() for prompt in prompts]),
        seed=params.seed,
        rows=len(answers),
        answers=FileDigest.of(paths["answers"]),
        losses=FileDigest.of(paths["losses"]),
    )
    completions.write(out / f"{identity.system}.json")
    return completions


def with_examples(messages: Turns, examples: Turns) -> Turns:
    """Put few-shot turns before the conversation, but after its system message."""
    first = 1 if messages[0].role == "system" else 0
    return (*messages[:first], *examples, *messages[first:])


def check_lengths(
    language: LanguageModel,
    prompts: Sequence[Prompt],
    encoded: Sequence[Sequence[int]],
    params: GenerationParams,
) -> None:
    """Refuse a prompt that does not fit into the context together with the longest answer."""
    for prompt, ids in zip(prompts, encoded, strict=True):
        longest = max(
            len(language.encoder.completion_ids(reference))
            for reference in prompt.references
        )
        tokens = len(ids) + max(longest, params.max_new_tokens)
        if tokens > language.context_tokens:
            raise UnusableRow(
                f"Held-out prompt {prompt.id} ({text_of(prompt.messages)[:40]!r}) needs {tokens} tokens with its answer, "
                f"the model's context holds {language.context_tokens}. Shorten it, or lower generation.max_new_tokens."
            )


def _answers(
    language: LanguageModel,
    prompts: Sequence[Prompt],
    encoded: Sequence[Sequence[int]],
    params: GenerationParams,
    system: str,
) -> list[Completion]:
    with progress_bar(f"answers, {system}", len(prompts)) as advance:
        generated = generate(
            language,
            encoded,
            max_new_tokens=params.max_new_tokens,
            batch_size=params.batch_size,
            advance=advance,
        )
    if len(generated) != len(prompts):
        raise IncompleteGeneration(
            f"{system} answered {len(generated)} of {len(prompts)} prompts. Run the stage again."
        )
    return [
        Completion(
            prompt_id=prompt.id,
            text=language.encoder.decode(row.ids),
            tokens=len(row.ids),
            ended=row.ended,
        )
        for prompt, row in zip(prompts, generated, strict=True)
    ]


def _losses(
    language: LanguageModel,
    prompts: Sequence[Prompt],
    encoded: Sequence[Sequence[int]],
    params: GenerationParams,
    system: str,
) -> list[TokenLoss]:
    places = [
        (index, number)
        for index, prompt in enumerate(prompts)
        for number in range(len(prompt.references))
    ]
    rows = [
        (encoded[index], _completion_ids(language.encoder, prompts[index], number))
        for index, number in places
    ]
    with progress_bar(f"losses, {system}", len(rows)) as advance:
        nats = completion_losses(
            language, rows, batch_size=params.batch_size, advance=advance
        )
    broken = next(
        (
            prompts[index].id
            for (index, _), loss in zip(places, nats, strict=True)
            if not math.isfinite(loss)
        ),
        None,
    )
    if broken is not None:
        raise IncompleteEvidence(
            f"The loss of {system} on held-out prompt {broken} is not a number. Train with a lower train.learning_rate."
        )
    return [
        TokenLoss(
            prompt_id=prompts[index].id,
            reference=number,
            nats=loss,
            tokens=len(completion),
            utf8_bytes=len(prompts[index].references[number].encode()),
        )
        for (index, number), (_, completion), loss in zip(
            places, rows, nats, strict=True
        )
    ]


def _completion_ids(encoder: ChatEncoder, prompt: Prompt, number: int) -> list[int]:
    ids = encoder.completion_ids(prompt.references[number])
    if len(ids) < 2:
        raise UnusableRow(
            f"Held-out prompt {prompt.id} has a reference without tokens: nothing to score. Remove it."
        )
    return ids
