"""`assay data inspect`: what is understood of a file of rows, and what of it will be lost.

It reads the file and nothing else: no home, no service, no base model unless one is named.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from core.errors import UnreadableData, UnusableRow
from core.project import find_checkout
from core.value import Value
from pipelines import layout
from pipelines.models.chat import ChatEncoder
from pipelines.rows.formats import read_records
from pipelines.rows.reading import read_rows_of
from pipelines.rows.text import count_folded_characters, make_printable
from pipelines.values.dataset import Row
from pipelines.values.params import (
    BaseModelParams,
    Params,
    parse_assignment,
    preview_override,
)
from pipelines.values.reading import ColumnUse, FileReading

MOST_GROUPS = 20


class RenderedExample(Value):
    """One row as a model sees it: its prompt, and the answer that is learned."""

    number: int
    prompt: str
    completion: str


class DataInspection(Value):
    """How a file is read, where each record goes, and three of its rows."""

    reading: FileReading
    usable: int = Field(description="Rows that a run would split and train on.")
    set_aside: dict[str, int] = Field(
        description="Records by reason, in `collect` and in `validate`."
    )
    feature: str | None
    groups: dict[str, int] = Field(description="Rows of each group of the feature.")
    refused_by_template: dict[str, int] = Field(
        description="Rows by the reason for which the chat template refuses them."
    )
    examples: tuple[RenderedExample, ...]

    @property
    def text(self) -> str:
        """Give a line for each fact, then the examples."""
        sections = (
            ("file", [self.reading.file]),
            ("shape", [self.reading.shape]),
            ("columns", list(map(_describe_column, self.reading.columns))),
            ("records", self._count_lines()),
            ("prompts", [self._prompt_line()]),
            ("feature", self._group_lines()),
            ("notes", [*self.reading.notes, *self._refusal_lines()]),
        )
        lines: list[str] = []
        for name, entries in sections:
            for place, entry in enumerate(entries):
                heading = name if place == 0 else ""
                lines.append(f"{heading:<12}{entry}")
        for example in self.examples:
            lines += _show_example(example)
        return "\n".join(lines)

    @property
    def loss(self) -> str:
        """Why no row can be used, as far as the most frequent reason says."""
        if not self.set_aside:
            return "it holds no record"
        reason = next(iter(self.set_aside))
        return f"{self.set_aside[reason]:,} of {self.reading.records:,}: {reason}"

    def _count_lines(self) -> Iterator[str]:
        lost = sum(self.set_aside.values())
        yield (
            f"{self.reading.records:,} = {self.usable:,} rows used + {lost:,} set aside"
        )
        for reason, count in self.set_aside.items():
            yield f"{count:,} set aside: {reason}"
        if self.reading.duplicates:
            yield (
                f"{self.reading.duplicates:,} rows repeat the prompt and answer of another: "
                "one of each is kept"
            )

    def _prompt_line(self) -> str:
        several = self.reading.prompts_with_several_answers
        line = f"{self.reading.prompts:,} distinct"
        if not several:
            return line
        return f"{line}; {several:,} have several answers, which are references of each other"

    def _group_lines(self) -> Iterator[str]:
        if self.feature is None:
            yield f"no sensitive feature is declared{self._possible_features()}"
            return
        shown = list(self.groups.items())[:MOST_GROUPS]
        sizes = ", ".join(f"{group} {count:,}" for group, count in shown)
        others = len(self.groups) - len(shown)
        more = f", and {others:,} more" if others else ""
        yield f"{self.feature}: {sizes or 'no row has a value'}{more}"

    def _possible_features(self) -> str:
        names = [
            f"data.sensitive_feature={column.name}"
            for column in self.reading.columns
            if column.use is None
            and column.kind == "labels"
            and 1 < column.distinct <= MOST_GROUPS
        ]
        return f"; it may be {' or '.join(names)}" if names else ""

    def _refusal_lines(self) -> Iterator[str]:
        for reason, count in self.refused_by_template.items():
            yield f"{count:,} rows: {reason}"


def inspect_data(
    file: Path, settings: Sequence[str] = (), base_model: Path | None = None
) -> DataInspection:
    """Read a file as a run would, and say what was understood.

    `UnreadableData`, `NoSuchColumn` and `ParameterError` where the file as a whole is refused,
    `UnusableBaseModel` where the named base model renders no conversation.
    """
    params = _read_params(settings)
    found = read_rows_of(read_records(file), params.data, str(file))
    reading = found.describe()
    rows, odd = _check_lengths(found.rows, params.data.max_characters)
    encoder = None
    if base_model is not None:
        encoder = _load_encoder(base_model, params.base_model)
    refused = {} if encoder is None else _ask_template(rows, encoder)
    feature = params.data.sensitive_feature
    groups = Counter(row.feature for row in rows if row.feature is not None)
    return DataInspection(
        reading=reading,
        usable=len(rows),
        set_aside={**reading.set_aside, **odd},
        feature=feature,
        groups={make_printable(group): count for group, count in groups.most_common()},
        refused_by_template=refused,
        examples=tuple(_render(row, encoder) for row in _choose_examples(rows)),
    )


def check_usable(inspection: DataInspection, file: Path) -> None:
    """Raise `UnreadableData` where not one row of a file can be used."""
    if not inspection.usable:
        raise UnreadableData(
            f"No row of {file} can be used ({inspection.loss}). "
            "Correct that, or name the columns with `--set data.…`."
        )


def _read_params(settings: Sequence[str]) -> Params:
    # Outside of any checkout the parameters are those that this code came with.
    installed = Path(__file__).resolve().parents[1]
    root = find_checkout(Path.cwd()) or installed
    assignments: dict[str, Any] = dict(map(parse_assignment, settings))
    return preview_override(root / layout.PARAMS, assignments)


def _check_lengths(
    rows: Sequence[Row], longest: int
) -> tuple[list[Row], dict[str, int]]:
    """Separate the rows that `validate` would set aside for the length of a text."""
    fitting: list[Row] = []
    odd: Counter[str] = Counter()
    for row in rows:
        reason = _find_odd_length(row, longest)
        if reason is None:
            fitting.append(row)
        else:
            odd[reason] += 1
    return fitting, dict(odd.most_common())


def _find_odd_length(row: Row, longest: int) -> str | None:
    for name, text in (("prompt", row.prompt), ("completion", row.completion)):
        characters = count_folded_characters(text)
        if not characters:
            return f"the {name} is empty"
        if characters > longest:
            return f"the {name} is longer than data.max_characters, {longest:,}"
    return None


def _load_encoder(folder: Path, params: BaseModelParams) -> ChatEncoder:
    """The folder's tokenizer with the template that a run would take."""
    if params.completion_mode:
        return ChatEncoder.load(folder, None)
    if params.chat_template is not None:
        return ChatEncoder.load(folder, params.chat_template)
    # Without a template the tokenizer still loads, and says which one it has.
    tokenizer = ChatEncoder.load(folder, None).tokenizer
    return ChatEncoder.load(folder, _read_template(tokenizer, folder))


def _read_template(tokenizer: Any, folder: Path) -> str:
    try:
        return str(tokenizer.get_chat_template())
    # transformers raises a ValueError where there is none.
    except ValueError as error:
        raise UnreadableData(
            f"{folder} has no chat template. Give one with "
            "`--set base_model.chat_template=…`, or leave out --base-model."
        ) from error


def _ask_template(rows: Sequence[Row], encoder: ChatEncoder) -> dict[str, int]:
    """Count the rows that the template refuses, by its reason.

    What it refuses depends on the roles: one row of each order of roles is asked.
    """
    by_roles: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        roles = tuple(message.role for message in row.messages)
        by_roles.setdefault(roles, []).append(row)
    refused: Counter[str] = Counter()
    for alike in by_roles.values():
        try:
            encoder.prompt_ids(alike[0].messages)
        except UnusableRow as error:
            reason = f"{error} The first is record {alike[0].number:,}."
            refused[make_printable(reason)] += len(alike)
    return dict(refused.most_common())


def _choose_examples(rows: Sequence[Row]) -> list[Row]:
    """The first, the middle and the last row: a file may change on its way."""
    places = {0, len(rows) // 2, len(rows) - 1} if rows else set()
    return [rows[place] for place in sorted(places)]


def _render(row: Row, encoder: ChatEncoder | None) -> RenderedExample:
    prompt = "\n".join(f"{turn.role}: {turn.content}" for turn in row.messages)
    completion = row.completion
    if encoder is not None:
        try:
            prompt_ids = encoder.prompt_ids(row.messages)
        except UnusableRow as error:
            prompt = str(error)
        else:
            # Control tokens stay: they are what a person cannot see otherwise.
            prompt = str(encoder.tokenizer.decode(prompt_ids))
            completion_ids = encoder.completion_ids(row.completion)
            completion = str(encoder.tokenizer.decode(completion_ids))
    return RenderedExample(number=row.number, prompt=prompt, completion=completion)


def _show_example(example: RenderedExample) -> Iterator[str]:
    yield ""
    yield f"record {example.number:,}"
    for name, text in (("prompt", example.prompt), ("answer", example.completion)):
        lines = text.split("\n")
        for place, line in enumerate(lines):
            heading = name if place == 0 else ""
            yield f"  {heading:<10}{make_printable(line)}"


def _describe_column(column: ColumnUse) -> str:
    use = column.use or "not used"
    return f"{column.name}: {use} ({column.description})"
