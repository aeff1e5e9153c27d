"""Stage `prompt_baselines`: what the base model does without training.

In: the base model, the held-out prompts, the training set to take examples from, and the baselines
that the policy asks for (`data/admit/baselines.json`).
Out: `data/prompt_baselines` with the answers and losses of the bare base, of the base with few-shot
examples (`few_shot_examples.json`) and, where it is asked for, of the base with the training rows
that resemble each prompt (`retrieved_examples.json`).
Refuses: prompts so long that not one example fits beside them, and what `answer` refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from core.settings import Settings
from pipelines import layout
from pipelines.engines.scored_model import open_scored_model
from pipelines.kept_results import kept_results
from pipelines.models.answers import (
    Identity,
    Messages,
    Places,
    answer,
    insert_examples,
)
from pipelines.models.comparator_bases import own_base
from pipelines.models.few_shot import count_free_tokens, draw_examples
from pipelines.models.language_model import LanguageModel
from pipelines.models.resumed import Resumed
from pipelines.models.retrieval import (
    Index,
    Retriever,
    best_count,
    choose_count,
    identity_of,
    record_retrieved,
    retrieve,
)
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.baselines import AskedBaselines
from pipelines.values.dataset import Prompt, Row, group_prompts, read_rows
from pipelines.values.evidence import Completions
from pipelines.values.examples import FewShotChoice, Retrieved
from pipelines.values.params import (
    FewShotParams,
    GenerationParams,
    Params,
    load_params,
)
from pipelines.values.training_set import read_training_set


@dataclass(frozen=True)
class Questions:
    """The held-out prompts, and where their answers go."""

    prompts: Sequence[Prompt]
    params: GenerationParams
    places: Places

    def ask(self, identity: Identity, language: LanguageModel) -> Completions:
        """One baseline's answers; `answer` names the errors."""
        return answer(
            identity,
            language,
            self.prompts,
            self.params,
            self.places,
        )


def prompt_baselines(
    bare: Identity,
    language: LanguageModel,
    questions: Questions,
    examples: Messages,
) -> tuple[Completions, Completions]:
    """Return the base's answers, bare and after the examples; `answer` names the errors."""
    # One model and one configuration: the examples are all that differs.
    few_shot = bare.model_copy(update={"system": "few_shot", "examples": examples})
    return (
        questions.ask(bare, language),
        questions.ask(few_shot, language),
    )


def choose_examples(
    asked: Resumed,
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
        draw_examples(asked.language, train, params, number, room)
        for number in range(params.draws)
    ]
    losses = tuple(
        _measure_dev_loss(asked, f"draw {number + 1}", dev, draw)
        for number, draw in enumerate(draws)
    )
    # The first of equal draws: nothing but the seed decides.
    best = losses.index(min(losses))
    return FewShotChoice(
        examples=draws[best],
        dev_nats_per_token=losses,
    )


def choose_retriever(
    asked: Resumed, index: Index, dev: Sequence[Row], params: FewShotParams
) -> tuple[Retriever, dict[int, float]]:
    """Choose how many similar rows stand before a prompt: as many as make dev rows likeliest."""
    losses = choose_count(index, asked, dev, params)
    count = best_count(losses)
    retriever = Retriever(index, asked.language, count)
    return retriever, losses


def answer_by_retrieval(
    base: BaseModelManifest,
    retriever: Retriever,
    losses: dict[int, float],
    questions: Questions,
) -> Retrieved:
    """Have the base answer after the rows that resemble each prompt; gives which those were."""
    found = retrieve(retriever, questions.prompts, questions.params)
    record = record_retrieved(retriever, losses, found)
    identity = identity_of(base, record, found)
    questions.ask(identity, retriever.language)
    return record


def main() -> int:
    """Write every baseline's answers and losses, and which examples stood before the prompts."""
    # What was answered before a kill is found there again, until the last baseline has answered.
    with kept_results("prompt_baselines") as kept:
        print(_answer_all(Places(layout.PROMPT_BASELINES, kept)))
    return 0


def _answer_all(places: Places) -> str:
    """Have every baseline answer, and give the line that people see."""
    params = load_params()
    own = own_base(Settings().home)
    with open_scored_model(own, params.generation) as language:
        return _ask_all(own.manifest, language, params, places)


def _ask_all(
    base: BaseModelManifest, language: LanguageModel, params: Params, places: Places
) -> str:
    training_set = read_training_set()
    train = read_rows(training_set.train.checked())
    dev = read_rows(training_set.dev.checked())
    held_out = read_rows(layout.HELD_OUT)
    prompts = group_prompts(held_out)
    # The same examples have to fit beside a prompt of the reserve: its length alone is looked at.
    all_prompts = group_prompts([*held_out, *read_rows(layout.SEALED)])
    room = count_free_tokens(language, dev, all_prompts, params.generation)
    asked = Resumed(language, "dev", base.digest, places.kept)
    choice = choose_examples(asked, train, dev, params.few_shot, room)
    choice.write(layout.FEW_SHOT_EXAMPLES)
    questions = Questions(prompts, params.generation, places)
    bare, _ = prompt_baselines(
        Identity(system="base", base=base),
        language,
        questions,
        choice.examples,
    )
    # An example counts as two messages: a question and its answer.
    example_count = len(choice.examples) // 2
    fewer = ""
    if example_count < params.few_shot.examples:
        fewer = f", of {params.few_shot.examples} as many as fit"
    retrieved = ""
    if "retrieval" in AskedBaselines.read(layout.ASKED_BASELINES).baselines:
        index = Index.of(training_set.train)
        retriever, losses = choose_retriever(asked, index, dev, params.few_shot)
        record = answer_by_retrieval(base, retriever, losses, questions)
        record.write(layout.RETRIEVED)
        retrieved = f", and after up to {record.examples} similar training rows"
    return (
        f"{bare.rows} prompts answered by the base, "
        f"bare and after {example_count} examples{fewer}{retrieved}"
    )


def _measure_dev_loss(
    asked: Resumed, what: str, dev: Sequence[Row], examples: Messages
) -> float:
    """Mean loss in nats per completion token of the dev rows, after the examples."""
    encoder = asked.language.encoder
    rows: list[tuple[list[int], list[int]]] = []
    tokens = 0
    for row in dev:
        prompt = insert_examples(row.messages, examples)
        prompt_ids, completion_ids = encoder.encode_example(prompt, row.completion)
        rows.append((prompt_ids, completion_ids))
        tokens += len(completion_ids)
    nats = asked.losses(what, rows, batch_size=32)
    return sum(nats) / tokens
