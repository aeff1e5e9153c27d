"""Stage `validate`: the suite in data/expectations over every split.

In: the splits, what `collect` set aside, and the suite.
Out: `data/validate` with what is left of each split, the quarantine, `report.json` and the Data
Docs page. A row that fails an expectation goes to the quarantine; an expectation about the table
as a whole fails the report.
Refuses: a suite that is missing, empty, or names an expectation that does not exist.

The only module that imports great_expectations. Two traps of it are closed here: it drops
expectations of an unknown type without an error, and its Data Docs show values unescaped.
"""

import html
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, ValidationError

from core.errors import ParameterError
from core.files import read_jsonl, sha256_of, write_text
from core.value import FileDigest, Value, first_problem
from pipelines import layout
from pipelines.rows.contents import digest_contents
from pipelines.rows.suite import find_suite_faults
from pipelines.rows.text import count_folded_characters, make_excerpt
from pipelines.values.dataset import (
    PARTS,
    RESERVE,
    SPLITS,
    Collection,
    ExpectationResult,
    QuarantinedRow,
    Row,
    ValidationReport,
    group_prompts,
    text_of,
    write_rows,
)
from pipelines.values.params import load_params

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

SAMPLE_IDS = 5
_SUITE_PARAMETERS = ("max_characters",)
_BETWEEN = "expect_column_values_to_be_between"
_CHARACTERS = "_characters"
# The key under which each expectation carries its place through great_expectations.
POSITION = "position_in_suite"
# What differs from run to run on the Data Docs page: a time, and ids of HTML elements.
MOMENT = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Limits = tuple[int | None, int | None]
"""The least and the most; None: no limit."""
Record = dict[str, Any]
PlacedRecord = tuple[str, Record]
_TESTS = "tests"
# Suites name every column of a row. Tests are in few projects, and are checked by being run.
_FIELDS = tuple(name for name in Row.model_fields if name != _TESTS)
"""A record with the name of its split."""


class SuiteExpectation(Value):
    """One expectation as great_expectations writes it.

    `{"$PARAMETER": "max_characters"}` in it is replaced by the parameter.
    """

    type: str
    kwargs: dict[str, Any]
    meta: dict[str, Any] = Field(default_factory=dict)

    @property
    def column(self) -> str | None:
        """The column that it asks about; None: the table."""
        return self.kwargs.get("column")

    @property
    def reason(self) -> str:
        """How a quarantined row names it."""
        if self.column:
            return f"{self.column}: {self.type}"
        return self.type


class Suite(Value):
    """What rows must be, and the digest of the file that says so."""

    name: str
    expectations: tuple[SuiteExpectation, ...] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)
    sha256: str = ""


class Inspection(Value):
    """What the suite says of one table, and the page that shows it.

    `reasons` are by position in the table, for rows that failed.
    """

    results: tuple[ExpectationResult, ...]
    reasons: dict[int, tuple[str, ...]]
    tables_hold: bool
    page: str


def validate(
    splits: Mapping[str, Sequence[Record]],
    suite: Suite,
    max_characters: int,
    set_aside: Sequence[QuarantinedRow],
    into: Path,
) -> ValidationReport:
    """Run the suite; write what is left of each split, the quarantine and the Data Docs.

    `set_aside` is what `collect` could not read: it joins the quarantine.
    """
    # One table over all splits: an expectation such as uniqueness has to see every row.
    # A reserve where the policy has one sealed: its rows must be as good as the others.
    names = PARTS if splits.get(RESERVE) else SPLITS
    placed = [(name, record) for name in names for record in splits[name]]
    inspection = inspect(placed, suite, max_characters)
    rows_left, failing = _separate_rows(placed, inspection.reasons)
    quarantine = (*set_aside, *failing)
    for name in PARTS:
        write_rows(into / f"{name}.jsonl", rows_left[name])
    write_rows(into / "quarantine.jsonl", quarantine)
    write_text(into / "docs" / "index.html", inspection.page)
    return ValidationReport(
        suite_sha256=suite.sha256,
        # Without one row left nothing was validated.
        passed=inspection.tables_hold and any(rows_left.values()),
        rows={name: len(rows_left[name]) for name in names},
        groups={name: _count_groups(rows_left[name]) for name in names},
        contents={name: _count_contents(rows_left[name]) for name in names},
        expectations=inspection.results,
        quarantine=FileDigest.of(into / "quarantine.jsonl"),
        quarantined=_count_reasons(quarantine),
        splits={name: FileDigest.of(into / f"{name}.jsonl") for name in names},
    )


def load_suite(path: Path) -> Suite:
    """Read a suite; `ParameterError` where it is missing, empty, or asks what does not exist."""
    suite = read_suite(path)
    columns = [*_FIELDS, "split", *_measure_texts({})]
    for expectation in suite.expectations:
        faults = find_suite_faults(expectation.kwargs, columns, _SUITE_PARAMETERS)
        for fault in faults:
            raise ParameterError(
                f"The expectation suite {path} does not fit: in {expectation.type}, "
                f"{fault}. Correct it: without it nothing passes."
            )
    # Built once for its errors alone, before any row is looked at.
    _build_gx_suite(suite, path)
    return suite


def read_suite(path: Path) -> Suite:
    """Read a suite without great_expectations; `ParameterError` where it is missing or empty."""
    try:
        suite = Suite.model_validate_json(path.read_bytes())
        return suite.model_copy(update={"sha256": sha256_of(path)})
    except OSError as error:
        raise ParameterError(
            f"The expectation suite {path} cannot be read ({error.strerror}). "
            "Without it nothing passes: bring it back."
        ) from error
    except ValidationError as error:
        raise ParameterError(
            f"The expectation suite {path} does not fit: {first_problem(error)}. "
            "Correct it: without it nothing passes."
        ) from error


def find_length_limits(suite: Suite, max_characters: int) -> dict[str, Limits]:
    """Return the least and the most characters of `prompt` and `completion` in a suite."""
    limits: dict[str, Limits] = {}
    for expectation in suite.expectations:
        column = expectation.column or ""
        is_length = column.endswith(_CHARACTERS)
        if not is_length or expectation.type != _BETWEEN:
            continue
        least = expectation.kwargs.get("min_value")
        most = expectation.kwargs.get("max_value")
        if most == {"$PARAMETER": "max_characters"}:
            most = max_characters
        limits[column.removesuffix(_CHARACTERS)] = (least, most)
    return limits


def inspect(
    placed: Sequence[PlacedRecord], suite: Suite, max_characters: int
) -> Inspection:
    """Run the suite over one table; rows that fail are named by their position in it."""
    outcome = _run_gx(_build_frame(placed), suite, max_characters)
    reasons: dict[int, list[str]] = {}
    results: list[ExpectationResult] = []
    tables_hold = True
    gx_results = sort_by_position(outcome.results)
    for expectation, gx_result in zip(suite.expectations, gx_results, strict=True):
        positions = _failing_positions(gx_result)
        for position in positions:
            reasons.setdefault(position, []).append(expectation.reason)
        has_passed = bool(gx_result.success)
        # Only rows that can be named can be set aside; anything else that is not a success
        # fails the table.
        tables_hold = tables_hold and (has_passed or bool(positions))
        failing = [placed[position][1] for position in positions]
        results.append(_describe_result(expectation, has_passed, failing))
    return Inspection(
        results=tuple(results),
        reasons={position: tuple(names) for position, names in reasons.items()},
        tables_hold=tables_hold,
        page=_render_page(outcome),
    )


def sort_by_position(results: Sequence[Any]) -> list[Any]:
    """Sort results in the suite's order; great_expectations puts exceptions first."""

    def read_position(result: Any) -> int:
        # `_build_gx_suite` put it there.
        meta = result.expectation_config.meta
        return int(meta[POSITION])

    return sorted(results, key=read_position)


def main() -> int:
    """Write data/validate: the splits, quarantine.jsonl, report.json and docs/index.html."""
    data = load_params().data
    # First: a suite that does not fit must end the stage before it writes anything.
    suite = load_suite(layout.EXPECTATIONS)
    collection = Collection.read(layout.COLLECT / "collection.json")
    set_aside = [
        QuarantinedRow.model_validate(record)
        for record in read_jsonl(collection.quarantine.checked())
    ]
    splits = {name: list(read_jsonl(layout.SPLIT / f"{name}.jsonl")) for name in PARTS}
    report = validate(splits, suite, data.max_characters, set_aside, layout.VALIDATE)
    report.write(layout.VALIDATION_REPORT)
    print(_summarise(report))
    return 0


def _summarise(report: ValidationReport) -> str:
    """One line for people: rows left, rows set aside, and which expectations some rows fail."""
    failed = [result.name for result in report.expectations if not result.passed]
    verdict = "every expectation holds"
    if failed:
        # One expectation may ask about several columns: it is named once.
        names = ", ".join(dict.fromkeys(failed))
        verdict = f"not for every row: {names}"
    rows_left = sum(report.rows.values())
    set_aside = sum(report.quarantined.values())
    return (
        f"{rows_left:,} rows left, {set_aside:,} set aside; "
        f"{len(report.expectations)} expectations, {verdict}"
    )


def _count_groups(rows: Sequence[Row]) -> int:
    groups = {row.group for row in rows}
    return len(groups)


def _count_contents(rows: Sequence[Row]) -> int:
    prompts = group_prompts(rows)
    digests = digest_contents(prompts)
    contents = set(digests)
    return len(contents)


def _build_frame(placed: Sequence[PlacedRecord]) -> "pd.DataFrame":
    """Build one table over all splits, values as they are, with measures of the texts."""
    import pandas as pd

    # Suites of projects know three splits, and a sealed row is a held-out row.
    shown = {RESERVE: "held_out"}
    rows = [
        {
            **_without_tests(record),
            "split": shown.get(name, name),
            **_measure_texts(record),
        }
        for name, record in placed
    ]
    columns = None
    if not rows:
        # Without rows pandas would have no column, and every expectation would fail.
        columns = [*_FIELDS, "split", *_measure_texts({})]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _without_tests(record: Record) -> Record:
    return {name: entry for name, entry in record.items() if name != _TESTS}


def _measure_texts(record: Record) -> Record:
    """Measure prompt and completion in characters after NFKC; what is not text has no length."""
    prompt = _read_prompt(record)
    return {
        "prompt": prompt,
        "prompt_characters": _count_characters(prompt),
        "completion_characters": _count_characters(record.get("completion")),
    }


def _count_characters(entry: Any) -> int | None:
    if not isinstance(entry, str):
        return None
    return count_folded_characters(entry)


def _read_prompt(record: Record) -> str | None:
    # A completion that is no text must not hide the prompt.
    with_completion = {**record, "completion": ""}
    row = _parse_row(with_completion)
    return None if row is None else text_of(row.messages)


def _failing_positions(gx_result: Any) -> list[int]:
    result = gx_result.result
    # Expectations about the table have no such list.
    positions = result.get("unexpected_index_list") or ()
    return [int(position) for position in positions]


def _describe_result(
    expectation: SuiteExpectation, passed: bool, failing: Sequence[Record]
) -> ExpectationResult:
    sample = tuple(str(record.get("id")) for record in failing[:SAMPLE_IDS])
    return ExpectationResult(
        name=expectation.type,
        column=expectation.column,
        passed=passed,
        failed_rows=len(failing),
        sample_row_ids=sample,
    )


def _separate_rows(
    placed: Sequence[PlacedRecord], reasons: Mapping[int, tuple[str, ...]]
) -> tuple[dict[str, list[Row]], list[QuarantinedRow]]:
    rows_left: dict[str, list[Row]] = {name: [] for name in PARTS}
    failing: list[QuarantinedRow] = []
    for position, (name, record) in enumerate(placed):
        row = _parse_row(record)
        # Also without a reason of the suite: what is not a whole row goes no further.
        if position in reasons or row is None:
            row_reasons = reasons.get(position, ("not a whole row",))
            quarantined = _quarantine(record, row_reasons)
            failing.append(quarantined)
        else:
            rows_left[name].append(row)
    return rows_left, failing


def _parse_row(record: Record) -> Row | None:
    try:
        return Row.model_validate(record)
    except ValidationError:
        return None


def _quarantine(record: Record, reasons: Sequence[str]) -> QuarantinedRow:
    number = record.get("number")
    return QuarantinedRow(
        number=number if isinstance(number, int) else 0,
        id=str(record.get("id")),
        reason="; ".join(reasons),
        excerpt=make_excerpt(str(record.get("completion"))),
    )


def _count_reasons(quarantine: Sequence[QuarantinedRow]) -> dict[str, int]:
    """Count rows by reason, without the detail in brackets that differs from row to row."""
    counts: Counter[str] = Counter()
    for row in quarantine:
        kind, _, _ = row.reason.partition(" (")
        counts[kind] += 1
    return dict(sorted(counts.items()))


def _build_gx_suite(
    suite: Suite, path: Path = layout.EXPECTATIONS
) -> "gx.ExpectationSuite":
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError

    # It logs a traceback of what it raises too: the sentence below says the same.
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    from pydantic.v1 import ValidationError as GxValidationError

    entries = [
        {**expectation.model_dump(), "meta": {POSITION: position}}
        for position, expectation in enumerate(suite.expectations)
    ]
    try:
        gx_suite = gx.ExpectationSuite(name=suite.name, expectations=entries)
    except (GreatExpectationsError, GxValidationError) as error:
        problem = " ".join(str(error).split())[:160]
        raise ParameterError(
            f"The expectation suite {path} does not fit: {problem}. "
            "Correct it: without it nothing passes."
        ) from error
    # great_expectations leaves out, without an error, what it does not know.
    if len(gx_suite.expectations) != len(entries):
        known_types = {
            expectation.expectation_type for expectation in gx_suite.expectations
        }
        missing = sorted({entry["type"] for entry in entries} - known_types)
        raise ParameterError(
            f"The expectation suite {path} names {', '.join(missing)}, "
            "which great_expectations does not have. Correct the name."
        )
    return gx_suite


def _run_gx(frame: "pd.DataFrame", suite: Suite, max_characters: int) -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # Ephemeral: great_expectations would otherwise write a project folder.
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(
        globally=False, metric_calculations=False
    )
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    definition = asset.add_batch_definition_whole_dataframe("all")
    batch = definition.get_batch({"dataframe": frame})
    return batch.validate(
        _build_gx_suite(suite),
        # COMPLETE: the position of every failing row, not of the first twenty.
        result_format="COMPLETE",
        expectation_parameters={"max_characters": max_characters},
    )


def _render_page(outcome: Any) -> str:
    """Render the Data Docs page of a validation."""
    from great_expectations.render.renderer.page_renderer import (
        ValidationResultsPageRenderer,
    )
    from great_expectations.render.view.view import DefaultJinjaPageView

    outcome.results = sort_by_position(outcome.results)
    for result in outcome.results:
        result.result = _escape(result.result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(outcome)
    page: str = DefaultJinjaPageView().render(document)  # type: ignore[no-untyped-call]
    return _make_repeatable(page)


def _make_repeatable(page: str) -> str:
    """Remove the moment and the random ids of a run.

    Equal data must give an equal file, or DVC would train again for it.
    """
    # Numbered by their first place on the page, which is the same in every run.
    ids = dict.fromkeys(RANDOM_ID.findall(page))
    names = {random_id: f"element-{index}" for index, random_id in enumerate(ids)}
    page = RANDOM_ID.sub(lambda match: names[match.group()], page)
    return MOMENT.sub("", page)


def _escape(shown: Any) -> Any:
    """Return a result with every text as HTML text: great_expectations shows them as they are."""
    if isinstance(shown, Mapping):
        return {key: _escape(entry) for key, entry in shown.items()}
    # Results are shown, and read no more: a list will do for each of them.
    if isinstance(shown, list | tuple | set):
        return [_escape(entry) for entry in shown]
    if isinstance(shown, str):
        return html.escape(shown)
    # The page cannot show a number of numpy, such as a mean.
    if isinstance(shown, np.generic):
        return shown.item()
    return shown
