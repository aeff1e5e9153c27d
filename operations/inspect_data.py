"""`assay data inspect`: what is understood of a file of rows, and what of it will be lost.

It reads the file and nothing else: no home, no service, no base model unless one is named.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from core.environment import set_library_environment
from core.errors import UnreadableData
from core.project import find_root
from core.value import Value
from flows.run.request import read_template_file
from operations.originals import originals
from operations.row_examples import (
    MOST_ROWS_ASKED,
    RenderedExample,
    ask_template,
    choose_examples,
    load_encoder,
    render,
)
from pipelines import layout
from pipelines.rows.formats import ReadAs, describe_lost_characters, read_records
from pipelines.rows.reading import read_rows_of
from pipelines.rows.text import count_folded_characters, make_printable
from pipelines.stages.validate import Limits, find_length_limits, read_suite
from pipelines.values.dataset import Row
from pipelines.values.params import (
    Params,
    parse_assignment,
    preview_override,
)
from pipelines.values.reading import ColumnUse, FileReading, count_of

MOST_GROUPS = 20


class InspectRequest(Value):
    """What to look at, and how a run would be told to read it."""

    file: Path
    base_model: Path | None = None
    chat_template: Path | None = None
    completion_mode: bool = False
    settings: tuple[str, ...] = ()


class DataInspection(Value):
    """How a file is read, where each record goes, and three of its rows."""

    file_notes: tuple[str, ...] = Field(
        description="What the file was read as, and what its encoding lost."
    )
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
    asked_of_template: int = Field(
        description="Rows that the chat template was asked with: the first ones."
    )
    examples: tuple[RenderedExample, ...]

    @property
    def text(self) -> str:
        """Give a line for each fact, then the examples."""
        # In the order in which a person asks: what is it, what is lost, what is odd.
        columns = map(_describe_column, self.reading.columns)
        notes = [*self.reading.notes, *self._refusal_lines()]
        sections = {
            "file": list(self.file_notes),
            "shape": [self.reading.shape],
            "columns": list(columns),
            "records": list(self._count_lines()),
            "prompts": [self._prompt_line],
            "feature": [self._feature_line],
            "notes": notes,
        }
        lines: list[str] = []
        for name, entries in sections.items():
            lines += _indent(entries, f"{name:<12}")
        for example in self.examples:
            lines += _show_example(example)
        return "\n".join(lines)

    @property
    def loss(self) -> str:
        """Why no row can be used, as far as the most frequent reason says."""
        if not self.set_aside:
            return "it holds no record"
        reason, *_ = self.set_aside
        count = self.set_aside[reason]
        return f"{count:,} of {self.reading.records:,}: {reason}"

    def _count_lines(self) -> Iterator[str]:
        # Always said, so that a person sees the sum add up.
        used = count_of(self.usable, "row")
        lost = sum(self.set_aside.values())
        yield f"{self.reading.records:,} = {used} used + {lost:,} set aside"
        for reason, count in self.set_aside.items():
            yield f"{count:,} set aside: {reason}"
        duplicates = self.reading.duplicates
        if duplicates:
            yield (
                f"{count_of(duplicates, 'duplicate')}: the prompt and the answer of another "
                "row; one of each is kept"
            )

    @property
    def _prompt_line(self) -> str:
        line = f"{self.reading.prompts:,} distinct"
        several = self.reading.prompts_with_several_answers
        if several:
            line = f"{line}, {several:,} with several answers: references of each other"
        return line

    @property
    def _feature_line(self) -> str:
        if self.feature is None:
            return f"no sensitive feature is declared{self._possible_features}"
        groups = list(self.groups)
        first_groups = groups[:MOST_GROUPS]
        sizes = [f"{group} {self.groups[group]:,}" for group in first_groups]
        others = len(groups) - MOST_GROUPS
        if others > 0:
            sizes.append(f"and {others:,} more")
        shown = ", ".join(sizes)
        return f"{self.feature}: {shown or 'no row has a value'}"

    @property
    def _possible_features(self) -> str:
        names = []
        for column in self.reading.columns:
            # Labels of a few values are groups that somebody may belong to.
            is_free = column.use is None and column.kind == "labels"
            if is_free and 1 < column.distinct <= MOST_GROUPS:
                names.append(f"data.sensitive_feature={column.name}")
        if not names:
            return ""
        return f"; it may be {' or '.join(names)}"

    def _refusal_lines(self) -> Iterator[str]:
        asked = self.asked_of_template
        # Said, since rows behind the first ones may still be refused by a run.
        if 0 < asked < self.usable:
            yield (
                f"the chat template was asked with the first {asked:,} of "
                f"{self.usable:,} rows"
            )
        for reason, count in self.refused_by_template.items():
            rows = count_of(count, "row")
            yield f"{rows}: {reason}"


def inspect_data(request: InspectRequest) -> DataInspection:
    """Read a file as a run would, and say what was understood.

    `UnreadableData`, `NoSuchColumn` and `ParameterError` where the file as a whole is refused,
    `UnusableBaseModel` where the named base model renders no conversation.
    """
    set_library_environment()
    file = request.file
    params = _read_params(request)
    # The same function as in stage `collect`, so that a run does as it says.
    opened = read_records(file, ReadAs.of(params.data))
    found = read_rows_of(opened.records, params.data, str(file))
    lost = describe_lost_characters(found.quarantine)
    reading = found.describe()
    suite = read_suite(_find_root() / layout.EXPECTATIONS)
    limits = find_length_limits(suite, params.data.max_characters)
    rows, odd = _check_lengths(found.rows, limits)
    set_aside = Counter(reading.set_aside) + odd
    encoder = None
    if request.base_model is not None:
        encoder = load_encoder(request.base_model, params.base_model)
    asked = [] if encoder is None else rows[:MOST_ROWS_ASKED]
    refused = {} if encoder is None else ask_template(asked, encoder)
    feature = params.data.sensitive_feature
    groups = Counter(row.feature for row in rows if row.feature is not None)
    return DataInspection(
        file_notes=(*opened.notes, *lost),
        reading=reading,
        usable=len(rows),
        # The most frequent first, whichever stage sets them aside.
        set_aside=dict(set_aside.most_common()),
        feature=feature,
        groups={make_printable(group): count for group, count in groups.most_common()},
        refused_by_template=refused,
        asked_of_template=len(asked),
        examples=tuple(render(row, encoder) for row in choose_examples(rows)),
    )


def check_usable(inspection: DataInspection, file: Path) -> None:
    """Raise `UnreadableData` where not one row of a file can be used."""
    if not inspection.usable:
        raise UnreadableData(
            f"No row of {file} can be used ({inspection.loss}). "
            "Correct that, or name the columns with `--set data.…`."
        )


def _read_params(request: InspectRequest) -> Params:
    assignments: dict[str, Any] = {}
    if request.completion_mode:
        assignments["base_model.completion_mode"] = True
    if request.chat_template is not None:
        template = read_template_file(request.chat_template)
        assignments["base_model.chat_template"] = template
    for text in request.settings:
        name, setting = parse_assignment(text)
        assignments[name] = setting
    return preview_override(_find_root() / layout.PARAMS, assignments)


def _find_root() -> Path:
    """The project or, outside of any, what this code came with."""
    current = Path.cwd()
    root = find_root(current)
    return originals() if root is None else root


def _check_lengths(
    rows: Sequence[Row], limits: Mapping[str, Limits]
) -> tuple[list[Row], Counter[str]]:
    """Separate the rows that `validate` would set aside for the length of a text."""
    fitting: list[Row] = []
    odd: Counter[str] = Counter()
    for row in rows:
        reason = _find_odd_length(row, limits)
        if reason is None:
            fitting.append(row)
        else:
            odd[reason] += 1
    return fitting, odd


def _find_odd_length(row: Row, limits: Mapping[str, Limits]) -> str | None:
    texts = {
        "prompt": row.prompt,
        "completion": row.completion,
    }
    for name, text in texts.items():
        least, most = limits.get(name, (None, None))
        characters = count_folded_characters(text)
        if least is not None and characters < least:
            lack = f"has fewer than {least:,} characters" if characters else "is empty"
            return f"the {name} {lack}"
        if most is not None and characters > most:
            return f"the {name} is longer than data.max_characters, {most:,}"
    return None


def _show_example(example: RenderedExample) -> Iterator[str]:
    yield ""
    yield f"record {example.number:,}"
    prompt = example.prompt.split("\n")
    answer = example.completion.split("\n")
    yield from _indent(prompt, "  prompt    ")
    yield from _indent(answer, "  answer    ")


def _indent(lines: Sequence[str], heading: str) -> Iterator[str]:
    """Put a heading before the first line and as much space before the others."""
    margin = heading
    for line in lines:
        printable = make_printable(line)
        yield f"{margin}{printable}"
        margin = " " * len(heading)


def _describe_column(column: ColumnUse) -> str:
    use = column.use or "not used"
    return f"{column.name}: {use} ({column.description})"
