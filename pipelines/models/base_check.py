"""The check of a base model on rows: each row is encoded, and a dozen of them are asked."""

from collections.abc import Iterator, Mapping, Sequence

from core.errors import UnusableRow
from pipelines.models.chat import ChatEncoder, Example
from pipelines.models.conformance import SAMPLE, Conformance, check_conformance
from pipelines.models.language_model import LanguageModel
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Row
from pipelines.values.params import GenerationParams

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
    params: GenerationParams,
) -> Conformance:
    """Encode every row of every split, and ask a dozen of the train split.

    `UnusableRow` names the first row that the template refuses or rewrites, with the number of
    such rows. `UnusableBaseModel` where the answers depend on how prompts are batched. Held-out
    rows are encoded, and never asked here.
    """
    examples: list[Example] = []
    for split, split_rows in rows.items():
        encoded = _encode_rows(language.encoder, split, split_rows)
        if split == "train":
            examples = encoded
    if not examples:
        examples = list(_encode_own_questions(language.encoder))
    return check_conformance(
        manifest.id, manifest.template_notes, language, _choose(examples), params
    )


def _encode_rows(
    encoder: ChatEncoder, split: str, rows: Sequence[Row]
) -> list[Example]:
    encoded: list[Example] = []
    refusals: list[str] = []
    # By id: a dozen of them are asked, and the order of a file is no reason to be asked.
    for row in sorted(rows, key=lambda row: row.id):
        try:
            encoded.append(encoder.encode_example(row.messages, row.completion))
        except UnusableRow as error:
            refusals.append(f"Row {row.number} ({row.id}) of {split}: {error}")
    if refusals:
        more = len(refusals) - 1
        others = f" {more} more rows of {split} are refused." if more else ""
        raise UnusableRow(f"{refusals[0]}{others}")
    return encoded


def _encode_own_questions(encoder: ChatEncoder) -> Iterator[Example]:
    for question in _QUESTIONS:
        messages = (Message(role="user", content=question),)
        yield encoder.encode_example(messages, _ANSWER)


def _choose(examples: Sequence[Example]) -> list[Example]:
    """Return the first ones and the longest one, which shows whether positions suffice."""
    longest = max(examples, key=lambda example: len(example[0]) + len(example[1]))
    chosen = list(examples[:SAMPLE])
    if longest not in chosen:
        chosen[-1] = longest
    return chosen
