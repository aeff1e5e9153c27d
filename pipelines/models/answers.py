"""One system's answers to prompts, and the losses of their references: what `score` reads."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import IncompleteEvidence, IncompleteGeneration, UnusableRow
from core.files import digest_of_json, write_jsonl
from core.progress import progress_bar
from core.value import FileDigest, Value
from pipelines.models.asked_rows import Sampling
from pipelines.models.chat import ChatEncoder
from pipelines.models.journal import Journal
from pipelines.models.kept_answers import KeptAnswers
from pipelines.models.language_model import (
    LanguageModel,
    generate_into,
    measure_losses_into,
)
from pipelines.models.refused_rows import name_refused
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt, text_of
from pipelines.values.evidence import Completion, Completions, System, TokenLoss
from pipelines.values.examples import digest_of_messages
from pipelines.values.params import GenerationParams
from pipelines.values.sampling import SampledAnswer, SampledCompletions
from pipelines.values.serving_spec import ServingSpec

Messages = tuple[Message, ...]


class Identity(Value):
    """Who answers: the system, its adapter, and the examples before each prompt."""

    system: System
    base: BaseModelManifest
    adapter_sha256: str | None = None
    adapter_bytes: int = 0
    # The same before every prompt, or those that were found for each, by its id.
    examples: Messages = ()
    retrieved: dict[str, Messages] | None = None
    retrieved_sha256: str | None = None

    def before(self, prompt: Prompt) -> Messages:
        """The examples before a prompt; `KeyError` where none were looked for."""
        if self.retrieved is None:
            return self.examples
        # Not `get`: a prompt that was forgotten must not pass for one without examples.
        return self.retrieved[prompt.id]

    def spec(self, params: GenerationParams, language: LanguageModel) -> ServingSpec:
        """Return what answers under these parameters, with that model.

        `IncompleteGeneration` where another engine than theirs computes.
        """
        engine, version = language.computed_by
        # A name that nobody computed by would be a made-up score.
        if engine != params.engine:
            raise IncompleteGeneration(
                f"{self.system} would be answered by {engine}, and generation.engine is "
                f"{params.engine}. Run the stage again."
            )
        spec = ServingSpec.of(
            self.base,
            engine=engine,
            engine_version=version,
            precision=params.precision,
            default_max_tokens=params.max_new_tokens,
        )
        return spec.with_adapter(self.adapter_sha256)

    @property
    def prefix_sha256(self) -> str | None:
        """Digest of the few-shot examples, or of the record of what was retrieved; else None."""
        if self.retrieved is not None:
            return self.retrieved_sha256
        if not self.examples:
            return None
        return digest_of_messages(self.examples)


@dataclass(frozen=True)
class Places:
    """Where answers go, and where they are kept on their way there.

    Without `kept` a killed evaluation begins anew.
    """

    out: Path
    kept: Path | None = None

    @contextmanager
    def kept_for_now(self) -> Iterator[Path]:
        """A folder for results on their way."""
        if self.kept is not None:
            yield self.kept
            return
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


@dataclass(frozen=True)
class _Assignment:
    """The prompts that one system answers, with their token ids in the same order."""

    identity: Identity
    language: LanguageModel
    prompts: Sequence[Prompt]
    encoded: Sequence[Sequence[int]]
    params: GenerationParams

    @property
    def system(self) -> System:
        """Who answers."""
        return self.identity.system

    def key(self, rows: Sequence[Any]) -> str:
        """What results are of: the model, how it answers, and the token ids of every row."""
        spec = self.identity.spec(self.params, self.language)
        document = {
            "spec": spec.model_dump(),
            "system": self.system,
            "examples": self.identity.prefix_sha256,
            "params": self.params.model_dump(),
            # Another device rounds otherwise, and other batches may, too.
            "device": self.language.device,
            "batching": self.language.batching.value,
            "rows": rows,
        }
        return digest_of_json(document)


@dataclass(frozen=True)
class _Reference:
    """One reference of one prompt, ready to be scored."""

    prompt: Prompt
    number: int
    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]


def answer(
    identity: Identity,
    language: LanguageModel,
    prompts: Sequence[Prompt],
    params: GenerationParams,
    places: Places,
) -> Completions:
    """Answer every prompt once, or by chance as well, and score every reference.

    Written below `places.out` as `SYSTEM.answers.jsonl`, `SYSTEM.losses.jsonl` and `SYSTEM.json`.
    What an evaluation that was killed left in `places.kept` is not computed again.
    `UnusableRow` where a prompt is too long, `IncompleteGeneration` and `IncompleteEvidence`
    where an answer or a loss is missing: none is made up.
    """
    system, out = identity.system, places.out
    encoded = _encode_prompts(identity, language, prompts)
    # Before the first answer: the longest prompt must not fail after hours.
    check_lengths(language, prompts, encoded, params)
    assignment = _Assignment(identity, language, prompts, encoded, params)
    answers_path = out / f"{system}.answers.jsonl"
    losses_path = out / f"{system}.losses.jsonl"
    with places.kept_for_now() as kept:
        answers = _generate_answers(assignment, kept)
        losses = _measure_losses(assignment, kept)
        sampled = draw_samples(assignment, kept, out)
        # One after the other from the disk: all of them need not fit into memory.
        write_jsonl(answers_path, (row.model_dump() for row in answers))
        write_jsonl(losses_path, (row.model_dump() for row in losses))
    completions = Completions(
        system=system,
        spec=identity.spec(params, language),
        prompt_prefix_sha256=identity.prefix_sha256,
        prompts_sha256=digest_of_json([prompt.model_dump() for prompt in prompts]),
        seed=params.seed,
        rows=len(prompts),
        answers=FileDigest.of(answers_path),
        losses=FileDigest.of(losses_path),
        sampled=sampled,
        adapter_bytes=identity.adapter_bytes,
    )
    # Written last: the record names files that are there.
    completions.write(out / f"{system}.json")
    return completions


def _encode_prompts(
    identity: Identity, language: LanguageModel, prompts: Sequence[Prompt]
) -> list[list[int]]:
    encoded: list[list[int]] = []
    for prompt in prompts:
        messages = insert_examples(prompt.messages, identity.before(prompt))
        with name_refused(prompt):
            encoded.append(language.encoder.prompt_ids(messages))
    return encoded


def insert_examples(messages: Messages, examples: Messages) -> Messages:
    """Put few-shot messages before the conversation, but after its system message."""
    if messages[0].role != "system":
        return (*examples, *messages)
    system, *conversation = messages
    return (system, *examples, *conversation)


def check_lengths(
    language: LanguageModel,
    prompts: Sequence[Prompt],
    encoded: Sequence[Sequence[int]],
    params: GenerationParams,
) -> None:
    """Raise `UnusableRow` for a prompt that does not fit into the context with its answer.

    `encoded` holds the prompts' token ids, in the same order. Room is kept for the longest
    reference and for `params.max_new_tokens`, whichever is more.
    """
    for prompt, ids in zip(prompts, encoded, strict=True):
        longest = count_longest_reference(language.encoder, prompt)
        tokens = len(ids) + max(longest, params.max_new_tokens)
        # Refused and not cut: a cut prompt is another question.
        if tokens > language.context_tokens:
            beginning = repr(text_of(prompt.messages)[:40])
            raise UnusableRow(
                f"Held-out prompt {prompt.id} ({beginning}) needs {tokens} tokens "
                f"with its answer, the model's context holds {language.context_tokens}. "
                "Shorten it, or lower generation.max_new_tokens."
            )


def count_longest_reference(encoder: ChatEncoder, prompt: Prompt) -> int:
    """Count the tokens of the prompt's longest reference, end-of-turn token included.

    `UnusableRow` names the prompt where one of them cannot be encoded behind it.
    """
    lengths = []
    for number in range(len(prompt.references)):
        _, ids = _encode_reference(
            encoder,
            prompt,
            number,
            prompt.messages,
        )
        lengths.append(len(ids))
    return max(lengths)


def _generate_answers(assignment: _Assignment, kept: Path) -> Iterator[Completion]:
    system = assignment.system
    path = kept / f"{system}.answers"
    answers = _answer_missing(assignment, path, f"answers, {system}")
    return _read_answers(assignment, answers)


def _answer_missing(
    assignment: _Assignment, path: Path, title: str, sampling: Sampling | None = None
) -> KeptAnswers:
    """The answers at `path`, once those that it lacked are there."""
    prompts = assignment.prompts
    answers = KeptAnswers(path, assignment.key(assignment.encoded))
    with progress_bar(title, len(prompts)) as advance:
        generate_into(
            answers,
            assignment.language,
            assignment.encoded,
            max_new_tokens=assignment.params.max_new_tokens,
            batch_size=assignment.params.batch_size,
            advance=advance,
            sampling=sampling,
        )
    # No answer is made up for a prompt without one.
    if len(answers) != len(prompts):
        raise IncompleteGeneration(
            f"{assignment.system} answered {len(answers)} of {len(prompts)} prompts. "
            "Run the stage again."
        )
    return answers


def _read_answers(
    assignment: _Assignment, answers: KeptAnswers
) -> Iterator[Completion]:
    encoder = assignment.language.encoder
    for number, prompt in enumerate(assignment.prompts):
        row = answers.read(number)
        yield Completion(
            prompt_id=prompt.id,
            text=encoder.decode(row.ids),
            tokens=len(row.ids),
            ended=row.ended,
            prompt_tokens=len(assignment.encoded[number]),
        )


def draw_samples(
    assignment: _Assignment, kept: Path, out: Path
) -> SampledCompletions | None:
    """Answer every prompt k times by chance, once for each seed; None where answers are greedy.

    Written below `out` as `SYSTEM.samples.jsonl`. `IncompleteGeneration` where an answer is
    missing.
    """
    drawn = assignment.params.sampled_as
    if drawn is None:
        return None
    samples: list[Iterator[SampledAnswer]] = []
    for number, seed in enumerate(drawn.seeds):
        sampling = Sampling(drawn.temperature, seed)
        samples.append(_draw(assignment, kept, number, sampling))
    path = out / f"{assignment.system}.samples.jsonl"
    rows = (sample.model_dump() for each in samples for sample in each)
    write_jsonl(path, rows)
    return SampledCompletions(drawn=drawn, answers=FileDigest.of(path))


def _draw(
    assignment: _Assignment, kept: Path, number: int, sampling: Sampling
) -> Iterator[SampledAnswer]:
    """One answer to each prompt, by chance from a seed."""
    path = kept / f"{assignment.system}.sample-{number}"
    title = f"sample {number + 1}, {assignment.system}"
    answers = _answer_missing(assignment, path, title, sampling)
    return _read_samples(assignment, answers, number)


def _read_samples(
    assignment: _Assignment, answers: KeptAnswers, number: int
) -> Iterator[SampledAnswer]:
    for place, prompt in enumerate(assignment.prompts):
        row = answers.read(place)
        yield SampledAnswer(
            prompt_id=prompt.id,
            sample=number,
            text=assignment.language.encoder.decode(row.ids),
            tokens=len(row.ids),
            ended=row.ended,
        )


def _measure_losses(assignment: _Assignment, kept: Path) -> Iterator[TokenLoss]:
    system = assignment.system
    references = _list_references(assignment)
    rows = [
        (reference.prompt_ids, reference.completion_ids) for reference in references
    ]
    losses = Journal(kept / f"{system}.losses", assignment.key(rows))
    with progress_bar(f"losses, {system}", len(rows)) as advance:
        measure_losses_into(
            losses,
            assignment.language,
            rows,
            batch_size=assignment.params.batch_size,
            advance=advance,
        )
    return _read_losses(assignment, references, losses)


def _read_losses(
    assignment: _Assignment, references: Sequence[_Reference], losses: Journal
) -> Iterator[TokenLoss]:
    for number, reference in enumerate(references):
        nats = losses.read(number)
        # A NaN would spoil every mean that it enters.
        if not math.isfinite(nats):
            prompt_id = reference.prompt.id
            raise IncompleteEvidence(
                f"The loss of {assignment.system} on held-out prompt {prompt_id} "
                "is not a number. Train with a lower train.learning_rate."
            )
        yield _describe_loss(reference, nats)


def _describe_loss(reference: _Reference, nats: float) -> TokenLoss:
    text = reference.prompt.references[reference.number]
    return TokenLoss(
        prompt_id=reference.prompt.id,
        reference=reference.number,
        nats=nats,
        tokens=len(reference.completion_ids),
        # Bits per byte needs them, and survives a change of tokenizer.
        utf8_bytes=len(text.encode()),
    )


def _list_references(assignment: _Assignment) -> list[_Reference]:
    encoder = assignment.language.encoder
    references: list[_Reference] = []
    for prompt in assignment.prompts:
        examples = assignment.identity.before(prompt)
        messages = insert_examples(prompt.messages, examples)
        for number in range(len(prompt.references)):
            example = _encode_reference(encoder, prompt, number, messages)
            references.append(_Reference(prompt, number, *example))
    return references


def _encode_reference(
    encoder: ChatEncoder, prompt: Prompt, number: int, messages: Messages
) -> tuple[list[int], list[int]]:
    """Encode one reference behind the messages that the system is asked."""
    with name_refused(prompt):
        prompt_ids, ids = encoder.encode_example(messages, prompt.references[number])
    # The end-of-turn token alone is no answer to be scored.
    if len(ids) < 2:
        raise UnusableRow(
            f"Held-out prompt {prompt.id} has a reference without tokens: "
            "nothing to score. Remove it."
        )
    return prompt_ids, ids
