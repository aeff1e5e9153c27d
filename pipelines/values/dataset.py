"""Values about data: rows, splits, and what was found in them."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from core.files import digest_of_json, read_jsonl, write_jsonl
from core.value import FileDigest, Value
from pipelines.values.reading import FileReading

# Groups are drawn into one of them as a whole, so that no split knows another's rows.
SPLITS = ("train", "dev", "held_out")
RESERVE = "reserve"
"""Held-out groups that nobody has been scored on yet; a split only where the policy asks for it."""
PARTS = (*SPLITS, RESERVE)
NO_GROUP = "(not given)"
"""The group of rows without a value for the declared feature: compared, but no sensitive group."""
Role = Literal["system", "user", "assistant"]


class Message(Value):
    """One turn of a conversation."""

    role: Role
    content: str


class Row(Value):
    """One example: the conversation up to the answer, and the answer."""

    id: str
    number: int = Field(
        description="Line (JSON lines), the sheet's row (workbook), or record, from 1."
    )
    messages: tuple[Message, ...] = Field(min_length=1, description="The prompt.")
    completion: str
    # Rows of one group resemble each other: they stay in one split, and are one cluster.
    group: str
    # The sensitive feature that groups are compared by; unrelated to `group`.
    feature: str | None = None
    # Left out where there are none, so that rows without keep their bytes and digests.
    tests: str | None = Field(
        default=None,
        exclude_if=lambda tests: tests is None,
        description="Python that code in the answer has to pass.",
    )

    @property
    def prompt(self) -> str:
        """The prompt as one text: its only message, or every turn with its role."""
        return text_of(self.messages)


class Prompt(Value):
    """A prompt to be answered once; its references are all completions that the data has for it."""

    id: str
    messages: tuple[Message, ...]
    references: tuple[str, ...] = Field(min_length=1)
    group: str
    feature: str | None = None
    tests: tuple[str, ...] = Field(default=(), exclude_if=lambda tests: not tests)


class QuarantinedRow(Value):
    """A row that was set aside: its place in the source, and the reason."""

    number: int
    id: str | None
    reason: str
    # Enough to find the row by; the whole row may be megabytes.
    excerpt: str = Field(max_length=200)


class Collection(Value):
    """The rows that `collect` read: those that parse, and those that do not."""

    source: str
    licence: str | None
    rows: FileDigest
    quarantine: FileDigest
    # A held-out set of one's own; None: one is split off.
    held_out: FileDigest | None
    # Before anything was set aside, so that shares are of what there was.
    source_rows: int
    source_sha256: str
    # How the file of rows was understood, then the held-out one; older records have none.
    readings: tuple[FileReading, ...] = ()
    notes: tuple[str, ...] = Field(
        default=(), description="What the files were read as, and what was lost."
    )


class DatasetVersion(Value):
    """The split data, by digest. `duplicates` counts exact repeats that were removed."""

    path: str
    # Two digests: DVC finds the rows by MD5, and SHA-256 protects them.
    md5: str = Field(description="DVC's name for the collected rows.")
    sha256: str
    git_revision: str | None = None
    source: str
    licence: str | None
    source_rows: int
    duplicates: int
    rows: dict[str, int]
    groups: dict[str, int]
    overlap: dict[str, int] = Field(
        description="Prompts of the held-out split found in train and dev, and rows found twice."
    )
    held_out_is_fixed: bool


class ExpectationResult(Value):
    """One expectation of the suite: what it asked, and which rows failed it."""

    name: str
    column: str | None
    passed: bool
    failed_rows: int
    # A few, for people; all of them are in the quarantine file.
    sample_row_ids: tuple[str, ...]


class ValidationReport(Value):
    """What Great Expectations found; failing rows are in the quarantine file."""

    # Of the expectations' file: another suite may pass what this one refused.
    suite_sha256: str
    passed: bool
    rows: dict[str, int] = Field(description="Rows left in each split.")
    groups: dict[str, int]
    contents: dict[str, int] | None = Field(
        default=None, description="Distinct contents in each split; None: not counted."
    )
    expectations: tuple[ExpectationResult, ...]
    quarantine: FileDigest
    quarantined: dict[str, int] = Field(
        description="Rows set aside, by reason, at collect and at validate."
    )
    splits: dict[str, FileDigest]


class Interval(Value):
    """An estimate with its two-sided 95 % interval."""

    estimate: float
    low: float
    high: float


class GroupRate(Value):
    """One group of a sensitive feature.

    Fewer rows than the policy's minimum are "insufficient", not "fair".
    """

    group: str
    n: int
    rate: float | None = Field(
        description="Share of favourable rows (selection rate), 0 to 1."
    )
    score: float | None = Field(
        description="Mean of the row metric that `metric` names."
    )
    refused: float | None = Field(
        default=None,
        description="Share of answers that are refusals, 0 to 1; None for data.",
    )


class BiasReport(Value):
    """How a sensitive feature's groups differ, in the data or in the outputs."""

    # Data before training, outputs after it: two reports, in front of two gates.
    subject: Literal["data", "outputs"]
    method: Literal["declared feature", "name templates", "not applicable"]
    feature: str | None
    metric: str
    min_group_size: int
    groups: tuple[GroupRate, ...]
    insufficient: tuple[str, ...]
    # None where fewer than two groups are large enough to compare.
    demographic_parity_difference: Interval | None
    demographic_parity_ratio: Interval | None
    score_difference: Interval | None
    refusal_difference: Interval | None = Field(
        default=None,
        description="Of outputs alone; None also where it was not counted.",
    )
    favourable_is_declared: bool = Field(
        default=False,
        description="A pattern says what is favourable, not the answer's length.",
    )
    without_value: int = Field(
        default=0,
        description="Rows that the declared feature has no value in: they are in no group.",
    )

    @property
    def left_out(self) -> str:
        """How many rows the comparison leaves out, as a clause; empty where there are none."""
        if not self.without_value:
            return ""
        compared = sum(group.n for group in self.groups)
        rows = self.without_value + compared
        return f"; without a value for it: {self.without_value:,} of {rows:,} rows"


class TrainingSet(Value):
    """Admitted rows; the held-out split is not among them.

    Only `pipelines.stages.admit.admit` makes one. It names the rows and nothing else, so that
    a new policy or a new held-out set over the same rows does not train again.
    """

    train: FileDigest
    dev: FileDigest
    rows: dict[str, int]


def normalise_text(text: str) -> str:
    """Fold what the eye does not tell apart: NFKC, case, white space.

    Two prompts that are equal afterwards are one prompt.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = folded.split()
    return " ".join(words)


def text_of(messages: Iterable[Message]) -> str:
    """Messages as one text: the only message's content, or every turn with its role."""
    turns = tuple(messages)
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read a split; `DamagedFile` where a line is not JSON."""
    records = read_jsonl(path)
    return tuple(Row.model_validate(record) for record in records)


def write_rows(path: Path, rows: Iterable[Row | Prompt | QuarantinedRow]) -> None:
    """Write rows, one JSON object a line."""
    records = (row.model_dump(mode="json") for row in rows)
    write_jsonl(path, records)


def prompt_id(messages: Iterable[Message]) -> str:
    """The prompt's identifier: 16 hexadecimal digits of its normalised text's SHA-256."""
    text = normalise_text(text_of(messages))
    return digest_of_json(text)[:16]


def group_prompts(rows: Iterable[Row]) -> tuple[Prompt, ...]:
    """Distinct prompts in the order in which they first occur.

    All completions of one prompt are its references.
    """
    by_prompt: dict[str, list[Row]] = {}
    for row in rows:
        text = normalise_text(row.prompt)
        by_prompt.setdefault(text, []).append(row)
    return tuple(_merge_rows(same) for same in by_prompt.values())


def _merge_rows(same: list[Row]) -> Prompt:
    """The prompt that the rows share; its group is that of the first row."""
    row = same[0]
    # dict.fromkeys drops repeated references and keeps their order, which a set would not.
    references = dict.fromkeys(row.completion for row in same)
    tests = dict.fromkeys(row.tests for row in same if row.tests)
    return Prompt(
        id=prompt_id(row.messages),
        messages=row.messages,
        references=tuple(references),
        group=row.group,
        feature=row.feature,
        tests=tuple(tests),
    )
