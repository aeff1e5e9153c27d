"""Stage `prompt_baselines`: what the base model does without training, bare and with examples in the prompt."""

import random
from collections.abc import Sequence

from core.errors import UnusableRow
from core.settings import Settings
from core.value import Value
from pipelines import layout
from pipelines.models.answers import Identity, Turns, answer, with_examples
from pipelines.models.language_model import (
    LanguageModel,
    completion_losses,
    load_language_model,
)
from pipelines.stages.base_model import locate, read_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt, Row, prompts_of, read_rows
from pipelines.values.evidence import Completions
from pipelines.values.params import FewShotParams, GenerationParams, load_params
from pipelines.values.training_set import read_training_set

OUT = layout.PROMPT_BASELINES


class FewShotChoice(Value):
    """The examples that stand before each prompt, and the dev loss of every draw that was tried."""

    examples: Turns
    dev_nats_per_token: tuple[float, ...]


def prompt_baselines(
    base: BaseModelManifest,
    language: LanguageModel,
    prompts: Sequence[Prompt],
    examples: Turns,
    params: GenerationParams,
) -> tuple[Completions, Completions]:
    """The base's answers, bare and after the examples."""
    bare = answer(Identity(system="base", base=base), language, prompts, params, OUT)
    prompted = answer(
        Identity(system="few_shot", base=base, examples=examples),
        language,
        prompts,
        params,
        OUT,
    )
    return bare, prompted


def choose_examples(
    language: LanguageModel,
    train: Sequence[Row],
    dev: Sequence[Row],
    params: FewShotParams,
    room: int,
) -> FewShotChoice:
    """The draw of training rows under which the dev rows are likeliest; the held-out split has no say.

    `room` is how many tokens the examples may take; a draw loses examples until it fits.
    """
    draws = [
        _draw(language, train, params, number, room) for number in range(params.draws)
    ]
    losses = tuple(_dev_loss(language, dev, draw) for draw in draws)
    best = min(range(len(draws)), key=lambda number: losses[number])
    return FewShotChoice(examples=draws[best], dev_nats_per_token=losses)


def main() -> int:
    """Write both systems' answers and losses, and `few_shot_examples.json`."""
    params, training_set = load_params(), read_training_set()
    base, template = read_base_model()
    language = load_language_model(
        base, locate(base, Settings().home), template, params.generation.precision
    )
    train, dev = (
        read_rows(training_set.train.checked()),
        read_rows(training_set.dev.checked()),
    )
    prompts = prompts_of(read_rows(layout.HELD_OUT))
    room = _room(language, dev, prompts, params.generation)
    choice = choose_examples(language, train, dev, params.few_shot, room)
    choice.write(OUT / "few_shot_examples.json")
    bare, _ = prompt_baselines(
        base, language, prompts, choice.examples, params.generation
    )
    print(
        f"{bare.rows} prompts answered by the base, bare and after {len(choice.examples) // 2} examples"
    )
    return 0


def _draw(
    language: LanguageModel,
    train: Sequence[Row],
    params: FewShotParams,
    number: int,
    room: int,
) -> Turns:
    rows = random.Random(f"{params.seed}/{number}").sample(  # noqa: S311 - a draw, no secret
        list(train), min(params.examples, len(train))
    )
    turns = [
        (
            *_without_system(row.messages),
            Message(role="assistant", content=row.completion),
        )
        for row in rows
    ]
    while turns and len(language.encoder.prompt_ids(_flat(turns))) > room:
        turns.pop()
    if not turns:
        raise UnusableRow(
            "Not one training example fits into the model's context beside the longest prompt, so that there is no prompt-only baseline "
            "to be better than. Shorten the rows, or take a base model with a longer context."
        )
    return _flat(turns)


def _without_system(messages: Turns) -> Turns:
    """The conversation's own system message stands once, before all examples."""
    return messages[1:] if messages[0].role == "system" else messages


def _flat(turns: Sequence[Turns]) -> Turns:
    return tuple(message for example in turns for message in example)


def _dev_loss(language: LanguageModel, dev: Sequence[Row], examples: Turns) -> float:
    rows = [
        (
            language.encoder.prompt_ids(with_examples(row.messages, examples)),
            language.encoder.completion_ids(row.completion),
        )
        for row in dev
    ]
    nats = completion_losses(language, rows, batch_size=32)
    return sum(nats) / sum(len(completion) for _, completion in rows)


def _room(
    language: LanguageModel,
    dev: Sequence[Row],
    prompts: Sequence[Prompt],
    params: GenerationParams,
) -> int:
    """Tokens that the longest conversation leaves free in the context. Only lengths of the held-out prompts are looked at."""
    encoder = language.encoder
    needs = [
        len(encoder.prompt_ids(row.messages))
        + len(encoder.completion_ids(row.completion))
        for row in dev
    ]
    for prompt in prompts:
        longest = max(
            len(encoder.completion_ids(reference)) for reference in prompt.references
        )
        needs.append(
            len(encoder.prompt_ids(prompt.messages))
            + max(longest, params.max_new_tokens)
        )
    return language.context_tokens - max(needs)
