"""Rows as a model sees them: through its chat template, with control tokens, or as plain turns."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.errors import UnusableRow
from core.value import Value
from pipelines.models.chat import ChatEncoder
from pipelines.rows.text import make_printable
from pipelines.stages.base_model import load_template
from pipelines.values.dataset import Row
from pipelines.values.params import BaseModelParams

EXAMPLES = 3
# More take longer than somebody waits who only looks.
MOST_ROWS_ASKED = 20_000


class RenderedExample(Value):
    """One row as a model sees it: its prompt, and the answer that is learned."""

    number: int
    prompt: str
    completion: str


def load_encoder(folder: Path, params: BaseModelParams) -> ChatEncoder:
    """Return the folder's tokenizer with the template that a run would take.

    `UnusableBaseModel` where there is none.
    """
    template = load_template(params, folder)
    return ChatEncoder.load(folder, None if template is None else template.text)


def ask_template(rows: Sequence[Row], encoder: ChatEncoder) -> dict[str, int]:
    """Count the rows that the template refuses, by its reason.

    What it refuses may depend on any text, so that every row is asked.
    """
    refused: Counter[str] = Counter()
    first: dict[str, int] = {}
    for row in rows:
        try:
            encoder.encode_example(row.messages, row.completion)
        except UnusableRow as error:
            reason = make_printable(str(error))
            refused[reason] += 1
            first.setdefault(reason, row.number)
    return {
        f"{reason} The first is record {first[reason]:,}.": count
        for reason, count in refused.most_common()
    }


def choose_examples(rows: Sequence[Row]) -> list[Row]:
    """Return the first, the middle and the last row: a file may change on its way."""
    # Of very few rows all are shown.
    if len(rows) <= EXAMPLES:
        return list(rows)
    middle = rows[len(rows) // 2]
    return [
        rows[0],
        middle,
        rows[-1],
    ]


def render(row: Row, encoder: ChatEncoder | None) -> RenderedExample:
    """Show a row through an encoder's template or, without one, as turns with their roles."""
    turns = [f"{turn.role}: {turn.content}" for turn in row.messages]
    prompt = "\n".join(turns)
    completion = row.completion
    if encoder is not None:
        prompt, completion = _render(row, encoder)
    return RenderedExample(
        number=row.number,
        prompt=prompt,
        completion=completion,
    )


def _render(row: Row, encoder: ChatEncoder) -> tuple[str, str]:
    """Prompt and answer with their control tokens, which nothing else shows a person."""
    try:
        prompt_ids, answer_ids = encoder.encode_example(row.messages, row.completion)
    except UnusableRow as error:
        return str(error), row.completion
    return encoder.show(prompt_ids), encoder.show(answer_ids)
