"""Rows as a model sees them: through its chat template, with control tokens, or as plain turns."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from core.errors import UnusableBaseModel, UnusableRow
from core.value import Value
from pipelines.models.chat import ChatEncoder
from pipelines.rows.text import make_printable
from pipelines.values.dataset import Row
from pipelines.values.params import BaseModelParams

EXAMPLES = 3


class RenderedExample(Value):
    """One row as a model sees it: its prompt, and the answer that is learned."""

    number: int
    prompt: str
    completion: str


def load_encoder(folder: Path, params: BaseModelParams) -> ChatEncoder:
    """Return the folder's tokenizer with the template that a run would take.

    `UnusableBaseModel` where there is none.
    """
    if params.chat_template is not None:
        return ChatEncoder.load(folder, params.chat_template)
    # Without a template the tokenizer still loads, and says which one it has.
    plain = ChatEncoder.load(folder, None)
    if params.completion_mode:
        return plain
    try:
        template = plain.tokenizer.get_chat_template()
    # transformers raises a ValueError where there is none.
    except ValueError as error:
        raise UnusableBaseModel(
            f"{folder} has no chat template. Give one with "
            "`--set base_model.chat_template=…`, or leave out --base-model."
        ) from error
    return ChatEncoder.load(folder, str(template))


def ask_template(rows: Sequence[Row], encoder: ChatEncoder) -> dict[str, int]:
    """Count the rows that the template refuses, by its reason.

    What it refuses depends on the roles: one row of each order of roles is asked.
    """
    by_roles: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        roles = tuple(message.role for message in row.messages)
        alike = by_roles.setdefault(roles, [])
        alike.append(row)
    refused: Counter[str] = Counter()
    for alike in by_roles.values():
        first = alike[0]
        try:
            encoder.prompt_ids(first.messages)
        except UnusableRow as error:
            reason = f"{error} The first is record {first.number:,}."
            refused[make_printable(reason)] += len(alike)
    return dict(refused)


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
        prompt = _render_prompt(row, encoder)
        # With the token that ends an answer.
        ids = encoder.completion_ids(row.completion)
        completion = str(encoder.tokenizer.decode(ids))
    return RenderedExample(
        number=row.number,
        prompt=prompt,
        completion=completion,
    )


def _render_prompt(row: Row, encoder: ChatEncoder) -> str:
    """The prompt with its control tokens, which nothing else shows a person."""
    try:
        ids = encoder.prompt_ids(row.messages)
    except UnusableRow as error:
        return str(error)
    return str(encoder.tokenizer.decode(ids))
