"""The check of a base model on rows: each is encoded, what has to fit is fitted, a dozen are asked.

rows ─┬─ every split encoded ─ held-out prompts and few-shot examples fit into the context
      └─ a dozen of train ─ conformance
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from core.errors import UnusableBaseModel, UnusableRow
from pipelines import layout
from pipelines.models.answers import check_lengths
from pipelines.models.chat import Example
from pipelines.models.conformance import SAMPLE, Asked, check_conformance
from pipelines.models.few_shot import count_free_tokens, draw_examples
from pipelines.models.language_model import LanguageModel
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.conformance import Conformance
from pipelines.values.dataset import (
    PARTS,
    RESERVE,
    SPLITS,
    Message,
    Row,
    group_prompts,
    read_rows,
)
from pipelines.values.params import Params
from pipelines.values.reading import count_of

# Asked where there are no rows yet: of several lengths, some with the same beginning.
_QUESTIONS = (
    "What is the capital of France?",
    "What is the capital of Japan, and how many people live there?",
    "Write one shell command that lists files.",
    "Write one shell command that lists files by size, the largest first.",
    "Translate to German: good morning",
    "Hello",
    "Name three colours.",
    "Count from one to five.",
    "Is seven a prime number? Answer with yes or no.",
    "Give the plural of mouse.",
    "Summarise in one sentence: the cat sat on the mat, and it was warm there.",
    "What comes after Monday?",
)
_ANSWER = "That is a good question."


def check_base(
    manifest: BaseModelManifest,
    language: LanguageModel,
    rows: Mapping[str, Sequence[Row]],
    params: Params,
) -> Conformance:
    """Encode every row of every split, and ask a dozen of the train split.

    `UnusableRow` names the first row that the template refuses or rewrites, with the number of
    such rows, or a held-out prompt that does not fit into the context. `UnusableBaseModel` where
    answers depend on how prompts are batched. Held-out rows are encoded, and never asked here.
    """
    examples: list[Example] = []
    for split, split_rows in rows.items():
        encoded = _encode_rows(language, split, split_rows)
        if split == "train":
            examples = encoded
    if all(rows.get(split) for split in SPLITS):
        _check_room(language, rows, params)
    if not examples:
        examples = _encode_own_questions(language)
    asked = Asked(
        manifest.id,
        manifest.template_notes,
        language,
        _choose(examples),
    )
    return check_conformance(asked, params.generation)


def read_all_rows() -> dict[str, tuple[Row, ...]]:
    """Read the validated rows of each split; none of a split that is not there yet."""
    rows: dict[str, tuple[Row, ...]] = {}
    for split in PARTS:
        path = layout.VALIDATE / f"{split}.jsonl"
        if path.is_file():
            rows[split] = read_rows(path)
    return rows


def _check_room(
    language: LanguageModel, rows: Mapping[str, Sequence[Row]], params: Params
) -> None:
    """Raise `UnusableRow` for what would not fit into the context once training is over."""
    # The reserve's prompts are asked one day: only their lengths are looked at.
    prompts = group_prompts([*rows["held_out"], *rows.get(RESERVE, ())])
    encoder = language.encoder
    generation = params.generation
    encoded = [encoder.prompt_ids(prompt.messages) for prompt in prompts]
    check_lengths(language, prompts, encoded, generation)
    room = count_free_tokens(
        language,
        rows["dev"],
        prompts,
        generation,
    )
    # The same draws as `prompt_baselines` makes.
    train = rows["train"]
    few_shot = params.few_shot
    for number in range(few_shot.draws):
        draw_examples(language, train, few_shot, number, room)


def _encode_rows(
    language: LanguageModel, split: str, rows: Sequence[Row]
) -> list[Example]:
    encoder = language.encoder
    encoded: list[Example] = []
    refusals: list[str] = []
    # By id: a dozen of them are asked, and the order of a file is no reason to be asked.
    for row in sorted(rows, key=lambda row: row.id):
        try:
            example = encoder.encode_example(row.messages, row.completion)
            _check_fits(language, example)
            encoded.append(example)
        except UnusableRow as error:
            refusals.append(f"Row {row.number} ({row.id}) of {split}: {error}")
    if refusals:
        count = count_of(len(refusals), "row")
        raise UnusableRow(f"{refusals[0]} Refused in all: {count} of {split}.")
    return encoded


def _check_fits(language: LanguageModel, example: Example) -> None:
    prompt, answer = example
    tokens = len(prompt) + len(answer)
    if tokens > language.context_tokens:
        raise UnusableRow(
            f"It has {tokens} tokens with its answer, and the model's context holds "
            f"{language.context_tokens}. Shorten it, or take another base model."
        )


def _encode_own_questions(language: LanguageModel) -> list[Example]:
    """Those of our questions that fit; `UnusableBaseModel` where none does."""
    encoded: list[Example] = []
    for question in _QUESTIONS:
        messages = (Message(role="user", content=question),)
        example = language.encoder.encode_example(messages, _ANSWER)
        with suppress(UnusableRow):
            _check_fits(language, example)
            encoded.append(example)
    if not encoded:
        raise UnusableBaseModel(
            f"The context of {language.context_tokens} tokens holds not one question of the "
            "check. Give rows that fit with --data."
        )
    return encoded


def _choose(examples: Sequence[Example]) -> list[Example]:
    """Return the first ones and the longest one, which shows whether positions suffice."""
    longest = max(examples, key=lambda example: len(example[0]) + len(example[1]))
    chosen = list(examples[:SAMPLE])
    if longest not in chosen:
        chosen[-1] = longest
    return chosen
