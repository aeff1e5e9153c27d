"""A file of records to rows: one shape for the file, a row or a reason for each record.

What was understood comes out beside the rows, so that nothing is left out in silence.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from core.files import digest_of_json
from pipelines.rows.features import FeatureTally
from pipelines.rows.formats import NumberedRecord, Record
from pipelines.rows.labels import read_feature, read_group, read_tests
from pipelines.rows.misfit import Misfit
from pipelines.rows.shapes.candidates import find_alpaca
from pipelines.rows.shapes.columns import ColumnTally, describe_unused, has_column
from pipelines.rows.shapes.recognise import FileShape, check_labels, recognise
from pipelines.rows.shapes.turns import Example
from pipelines.rows.text import make_excerpt, make_printable
from pipelines.values.dataset import QuarantinedRow, Row, normalise_text, text_of
from pipelines.values.params import DataParams
from pipelines.values.reading import ColumnUse, FileReading, count_of

RECORDS_FOR_SHAPE = 100
MOST_REMARKS = 8

Entry = NumberedRecord | QuarantinedRow
Answers = dict[str, list[str]]
"""All answers of each prompt, by its normalised text."""


@dataclass
class FileRows:
    """Rows of one file, what was set aside, and what is said of both."""

    where: str
    data: DataParams
    rows: list[Row] = field(default_factory=list)
    quarantine: list[QuarantinedRow] = field(default_factory=list)
    shape: FileShape | None = None
    columns: ColumnTally = field(default_factory=ColumnTally)
    remarks: Counter[str] = field(default_factory=Counter)
    labels_found: set[str] = field(default_factory=set)
    """Columns of labels that the parameters name and some record has."""

    def __post_init__(self) -> None:
        # Which column is tallied depends on the parameters.
        self.feature = FeatureTally(self.data)

    def look_for_labels(self, record: Record) -> None:
        """Remember which of the named columns of labels a record has."""
        for column in (
            self.data.group_column,
            self.data.sensitive_feature,
            self.data.tests_column,
        ):
            # Once is enough.
            if not column or column in self.labels_found:
                continue
            if has_column(record, column):
                self.labels_found.add(column)

    def describe(self) -> FileReading:
        """Return the reading: its counts add up to the records of the file."""
        # Prompts are the same as `split` sees them: but for case and white space.
        answers = self._answers_by_prompt()
        different = [len(set(texts)) for texts in answers.values()]
        reasons = Counter(row.reason for row in self.quarantine)
        columns = self.columns.uses(self._uses())
        return FileReading(
            # The name alone: folders differ from machine to machine.
            file=Path(self.where).name,
            shape=self._describe_shape(),
            records=len(self.rows) + len(self.quarantine),
            rows=len(self.rows),
            set_aside=dict(reasons.most_common()),
            duplicates=len(self.rows) - sum(different),
            prompts=len(answers),
            prompts_with_several_answers=sum(count > 1 for count in different),
            columns=columns,
            notes=tuple(self._notes(columns, answers)),
        )

    def _describe_shape(self) -> str:
        if self.shape is None:
            return "no record could be read"
        sentence = self.shape.describe(self.columns.filled)
        return make_printable(sentence)

    def _uses(self) -> dict[str, str]:
        group_column = self.data.group_column or "group"
        uses = {group_column: "group"}
        if self.data.sensitive_feature:
            uses[self.data.sensitive_feature] = "sensitive feature"
        if self.data.tests_column:
            uses[self.data.tests_column] = "tests"
        # A column may be both: what it is to the model is said.
        if self.shape is not None:
            uses.update(self.shape.uses)
        return uses

    def _answers_by_prompt(self) -> Answers:
        answers: Answers = {}
        for row in self.rows:
            prompt = normalise_text(row.prompt)
            texts = answers.setdefault(prompt, [])
            texts.append(row.completion)
        return answers

    def _notes(self, columns: tuple[ColumnUse, ...], answers: Answers) -> Iterator[str]:
        unused = describe_unused(columns)
        if unused is not None:
            yield unused
        if self.columns.has_more:
            yield "the records have more columns than are listed here"
        yield from _warn_of_unused_text(columns, answers)
        yield from self._suggest_alpaca(columns)
        yield from self._describe_remarks()
        yield from self.feature.describe()

    def _describe_remarks(self) -> Iterator[str]:
        rows = len(self.rows)
        said = self.remarks.most_common(MOST_REMARKS)
        for remark, count in said:
            yield f"{count:,} of {count_of(rows, 'row')}: {remark}"
        others = len(self.remarks) - len(said)
        if others:
            yield f"and {count_of(others, 'more remark')} of this kind"

    def _suggest_alpaca(self, columns: tuple[ColumnUse, ...]) -> Iterator[str]:
        """Say how to read the part of a prompt that the named columns leave out."""
        names: dict[str, list[str]] = {}
        for column in columns:
            if column.use is None or column.use in {"prompt", "completion"}:
                names[column.name] = []
        alpaca = find_alpaca(names, self.data)
        if alpaca is None:
            return
        unused = {
            column.name for column in columns if column.use is None and column.rows
        }
        # Prompt and answer are read: these are what else belongs to the prompt.
        left_out = unused.intersection(alpaca.columns.values())
        for name in sorted(left_out):
            yield f"to read `{name}` as part of the prompt: --set data.shape=alpaca"


def _warn_of_unused_text(
    columns: tuple[ColumnUse, ...], answers: Answers
) -> Iterator[str]:
    """Say that a text which nothing reads may be what a prompt lacks."""
    unread = [
        f"`{column.name}`"
        for column in columns
        if column.use is None and column.holds_text
    ]
    # Different answers to one prompt are a task that nobody can learn.
    several = [texts for texts in answers.values() if len(set(texts)) > 1]
    if not unread or not several:
        return
    rows = sum(len(texts) for texts in several)
    prompts = count_of(len(several), "prompt")
    names = " and ".join(unread[:3])
    yield (
        f"{prompts} with several different answers, in {count_of(rows, 'row')}: "
        f"{names}, which nothing reads, may be what tells them apart"
    )


def read_rows_of(records: Iterable[Entry], data: DataParams, where: str) -> FileRows:
    """Read records to rows by the one shape that their first ones have.

    `NoSuchColumn` or `UnreadableData` where they have none, and `ParameterError` where the
    sensitive feature is no group: nothing is returned then. No record at all gives no rows.
    """
    # One pass: reading a workbook or a compressed file twice takes long.
    file = FileRows(where, data)
    entries = iter(records)
    first = _take_first(entries)
    sample = []
    columns: set[str] = set()
    for entry in first:
        if not isinstance(entry, QuarantinedRow):
            _, record = entry
            sample.append(record)
            columns.update(record)
    # Where no record can be read, the quarantine explains the file.
    if columns:
        file.shape = recognise(sample, data, where)
    for entry in chain(first, entries):
        _sort(entry, file)
    # Any record may be the first that has a column.
    if columns:
        check_labels([*columns, *file.labels_found], data, where)
    # Last, since only the whole column shows a measure.
    file.feature.check()
    _set_odd_features_aside(file)
    return file


def _take_first(entries: Iterator[Entry]) -> list[Entry]:
    """Take as many entries as hold the records that show the shape."""
    first: list[Entry] = []
    records = 0
    for entry in entries:
        first.append(entry)
        if isinstance(entry, QuarantinedRow):
            continue
        _, record = entry
        # An empty record shows nothing.
        if record:
            records += 1
        if records == RECORDS_FOR_SHAPE:
            break
    return first


def _sort(entry: Entry, file: FileRows) -> None:
    # What the reader could not parse comes already set aside.
    if isinstance(entry, QuarantinedRow):
        file.quarantine.append(entry)
        return
    number, record = entry
    file.columns.add(record)
    file.feature.add(record)
    file.look_for_labels(record)
    try:
        example = _read_example(record, file.shape)
        file.rows.append(_build_row(number, record, example, file.data))
        file.remarks.update(example.remarks)
    except Misfit as misfit:
        file.quarantine.append(
            QuarantinedRow(
                number=number,
                id=None,
                reason=make_printable(str(misfit)),
                excerpt=make_excerpt(str(record)),
            )
        )


def _set_odd_features_aside(file: FileRows) -> None:
    """Set rows aside whose feature is a fraction that no other rows share."""
    odd_labels = file.feature.find_odd_labels()
    if not odd_labels:
        return
    odd = [row for row in file.rows if row.feature in odd_labels]
    file.rows = [row for row in file.rows if row.feature not in odd_labels]
    for row in odd:
        file.quarantine.append(
            QuarantinedRow(
                number=row.number,
                id=None,
                reason=f"column {file.feature.column} is of type float, not a label",
                excerpt=make_excerpt(row.prompt),
            )
        )
    file.quarantine.sort(key=lambda row: row.number)


def _read_example(record: Record, shape: FileShape | None) -> Example:
    # Without a shape no record of the file has any column.
    if shape is None:
        raise Misfit("a record without columns")
    return shape.read(record)


def _build_row(number: int, record: Record, example: Example, data: DataParams) -> Row:
    """Make a row whose id digests what it holds: the same in every file and order."""
    # Without a group every prompt is a group of its own.
    group = read_group(record, data) or normalise_text(text_of(example.messages))
    # Neither the number nor the feature: they do not change what is learned.
    content = {
        "messages": [message.model_dump() for message in example.messages],
        "completion": example.completion,
        "group": group,
    }
    row_id = digest_of_json(content)[:16]
    return Row(
        id=row_id,
        number=number,
        messages=example.messages,
        completion=example.completion,
        group=group,
        feature=read_feature(record, data),
        tests=read_tests(record, data),
    )
