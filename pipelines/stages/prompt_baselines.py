"""Stage `prompt_baselines`: what the base model does without training.

In: the base model, the held-out prompts, and the training set to draw examples from.
Out: `data/prompt_baselines` with the answers and losses of the bare base and of the base with
few-shot examples, and `few_shot_examples.json`.
Refuses: prompts so long that not one example fits beside them, and what `answer` refuses.
"""

from collections.abc import Sequence

from core.settings import Settings
from core.value import Value
from pipelines import layout
from pipelines.models.answers import (
    Identity,
    Messages,
    answer,
    insert_examples,
)
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.models.few_shot import count_free_tokens, draw_examples
from pipelines.models.language_model import (
    LanguageModel,
    load_language_model,
    measure_completion_losses,
)
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Prompt, Row, group_prompts, read_rows
from pipelines.values.evidence import Completions
from pipelines.values.params import FewShotParams, GenerationParams, load_params
from pipelines.values.training_set import read_training_set


class FewShotChoice(Value):
    """The examples before each prompt, and the dev loss of every draw that was tried."""

    examples: Messages
    dev_nats_per_token: tuple[float, ...]


def prompt_baselines(
    base: BaseModelManifest,
    language: LanguageModel,
    prompts: Sequence[Prompt],
    examples: Messages,
    params: GenerationParams,
) -> tuple[Completions, Completions]:
    """Return the base's answers, bare and after the examples; `answer` names the errors."""
    out = layout.PROMPT_BASELINES
    bare_base = Identity(system="base", base=base)
    few_shot_base = Identity(system="few_shot", base=base, examples=examples)
    bare = answer(bare_base, language, prompts, params, out)
    few_shot = answer(few_shot_base, language, prompts, params, out)
    return bare, few_shot


def choose_examples(
    language: LanguageModel,
    train: Sequence[Row],
    dev: Sequence[Row],
    params: FewShotParams,
    room: int,
) -> FewShotChoice:
    """Choose the draw of training rows under which the dev rows are likeliest.

    The held-out split has no say. `room` is how many tokens the examples may take; a draw
    loses examples until it fits, and `UnusableRow` says that none does.
    """
    draws = [
        draw_examples(language, train, params, number, room)
        for number in range(params.draws)
    ]
    losses = tuple(_measure_dev_loss(language, dev, draw) for draw in draws)
    # The first of equal draws: nothing but the seed decides.
    best = losses.index(min(losses))
    return FewShotChoice(
        examples=draws[best],
        dev_nats_per_token=losses,
    )


def main() -> int:
    """Write both systems' answers and losses, and `few_shot_examples.json`."""
    params = load_params()
    training_set = read_training_set()
    base, template = read_base_model()
    folder = locate_base_model(base, Settings().home)
    language = load_language_model(base, folder, template, params.generation.precision)
    train = read_rows(training_set.train.checked())
    dev = read_rows(training_set.dev.checked())
    held_out = read_rows(layout.HELD_OUT)
    prompts = group_prompts(held_out)
    # The same examples have to fit beside a prompt of the reserve: its length alone is looked at.
    all_prompts = group_prompts([*held_out, *read_rows(layout.SEALED)])
    room = count_free_tokens(language, dev, all_prompts, params.generation)
    choice = choose_examples(language, train, dev, params.few_shot, room)
    choice.write(layout.FEW_SHOT_EXAMPLES)
    bare, _ = prompt_baselines(
        base, language, prompts, choice.examples, params.generation
    )
    # An example counts as two messages: a question and its answer.
    example_count = len(choice.examples) // 2
    fewer = ""
    if example_count < params.few_shot.examples:
        fewer = f", of {params.few_shot.examples} as many as fit"
    print(
        f"{bare.rows} prompts answered by the base, "
        f"bare and after {example_count} examples{fewer}"
    )
    return 0


def _measure_dev_loss(
    language: LanguageModel, dev: Sequence[Row], examples: Messages
) -> float:
    """Mean loss in nats per completion token of the dev rows, after the examples."""
    encoder = language.encoder
    rows: list[tuple[list[int], list[int]]] = []
    tokens = 0
    for row in dev:
        prompt = insert_examples(row.messages, examples)
        prompt_ids, completion_ids = encoder.encode_example(prompt, row.completion)
        rows.append((prompt_ids, completion_ids))
        tokens += len(completion_ids)
    nats = measure_completion_losses(language, rows, batch_size=32)
    return sum(nats) / tokens
