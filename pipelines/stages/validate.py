"""Stage `validate`: the suite in data/expectations over every split. The only module that imports great_expectations.

Rows that fail an expectation go to the quarantine; an expectation about the table as a whole fails the report.
Two traps of great_expectations are closed here: it drops expectations of an unknown type without an error,
and its Data Docs show values unescaped.
"""

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from core.errors import ParameterError
from core.files import read_jsonl, sha256_of, write_text
from core.value import FileDigest, Value, first_problem
from pipelines import layout
from pipelines.rows.contents import contents_of
from pipelines.rows.text import excerpt, folded_length
from pipelines.values.dataset import (
    SPLITS,
    Collection,
    ExpectationResult,
    QuarantinedRow,
    Row,
    ValidationReport,
    prompts_of,
    text_of,
    write_rows,
)
from pipelines.values.params import load_params

if TYPE_CHECKING:
    import great_expectations as gx
    import pandas as pd

COLLECTED = layout.COLLECT
SPLIT = layout.SPLIT
OUT = layout.VALIDATE
SUITE = layout.EXPECTATIONS
SAMPLE = 5
POSITION = "position_in_suite"
MOMENT = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
RANDOM_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

Record = dict[str, Any]


class SuiteExpectation(Value):
    """One expectation as great_expectations writes it; `{"$PARAMETER": "max_characters"}` stands for the parameter."""

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
        return f"{self.column}: {self.type}" if self.column else self.type


class Suite(Value):
    """What rows must be, and the digest of the file that says so."""

    name: str
    expectations: tuple[SuiteExpectation, ...] = Field(min_length=1)
    meta: dict[str, Any] = Field(default_factory=dict)
    sha256: str = ""


class Inspection(Value):
    """What the suite found: the results, the reasons by position in the table, and the page that shows them."""

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
    """Run the suite, write what is left of each split, the quarantine and the Data Docs, and report."""
    placed = [(name, record) for name in SPLITS for record in splits[name]]
    inspection = inspect(placed, suite, max_characters)
    left, failing = _sorted_out(placed, inspection.reasons)
    quarantine = (*set_aside, *failing)
    for name in SPLITS:
        write_rows(into / f"{name}.jsonl", left[name])
    write_rows(into / "quarantine.jsonl", quarantine)
    write_text(into / "docs" / "index.html", inspection.page)
    return ValidationReport(
        suite_sha256=suite.sha256,
        passed=inspection.tables_hold and any(left.values()),
        rows={name: len(rows) for name, rows in left.items()},
        groups={name: len({row.group for row in rows}) for name, rows in left.items()},
        contents={
            name: len(set(contents_of(prompts_of(rows)))) for name, rows in left.items()
        },
        expectations=inspection.results,
        quarantine=FileDigest.of(into / "quarantine.jsonl"),
        quarantined=dict(
            sorted(Counter(row.reason.split(" (")[0] for row in quarantine).items())
        ),
        splits={name: FileDigest.of(into / f"{name}.jsonl") for name in SPLITS},
    )


def load_suite(path: Path) -> Suite:
    """Read a suite; one that is missing, empty or holds an expectation that does not exist fails closed."""
    try:
        suite = Suite.model_validate_json(path.read_bytes()).model_copy(
            update={"sha256": sha256_of(path)}
        )
    except OSError as error:
        raise ParameterError(
            f"The expectation suite {path} cannot be read ({error.strerror}). Without it nothing passes: bring it back."
        ) from error
    except ValidationError as error:
        raise ParameterError(
            f"The expectation suite {path} does not fit: {first_problem(error)}. Mend it: without it nothing passes."
        ) from error
    _gx_suite(suite, path)
    return suite


def inspect(
    placed: Sequence[tuple[str, Record]], suite: Suite, max_characters: int
) -> Inspection:
    """Run the suite over rows with their splits; row-level failures are told by position."""
    outcome = _gx_validate(_frame(placed), suite, max_characters)
    reasons: dict[int, list[str]] = {}
    results, tables_hold = [], True
    for expectation, found in zip(
        suite.expectations, in_order(outcome.results), strict=True
    ):
        failing = [
            int(position)
            for position in found.result.get("unexpected_index_list") or ()
        ]
        for position in failing:
            reasons.setdefault(position, []).append(expectation.reason)
        # Only rows that can be named can be set aside; anything else that is not a success fails the table.
        tables_hold = tables_hold and (bool(found.success) or bool(failing))
        results.append(
            _result(
                expectation,
                bool(found.success),
                [placed[position][1] for position in failing],
            )
        )
    by_position = {position: tuple(names) for position, names in reasons.items()}
    return Inspection(
        results=tuple(results),
        reasons=by_position,
        tables_hold=tables_hold,
        page=_data_docs(outcome),
    )


def in_order(results: Sequence[Any]) -> list[Any]:
    """Results in the suite's order: great_expectations puts those that raised an exception first."""
    return sorted(
        results, key=lambda found: int(found.expectation_config.meta[POSITION])
    )


def main() -> int:
    """Write data/validate: the splits, quarantine.jsonl, report.json and docs/index.html."""
    data = load_params().data
    suite = load_suite(SUITE)
    collection = Collection.read(COLLECTED / "collection.json")
    set_aside = [
        QuarantinedRow.model_validate(record)
        for record in read_jsonl(collection.quarantine.checked())
    ]
    splits = {name: list(read_jsonl(SPLIT / f"{name}.jsonl")) for name in SPLITS}
    report = validate(splits, suite, data.max_characters, set_aside, OUT)
    report.write(OUT / "report.json")
    failed = [result.name for result in report.expectations if not result.passed]
    verdict = (
        "every expectation holds"
        if not failed
        else f"not for every row: {', '.join(dict.fromkeys(failed))}"
    )
    aside = sum(report.quarantined.values())
    print(
        f"{sum(report.rows.values()):,} rows left, {aside:,} set aside; {len(report.expectations)} expectations, {verdict}"
    )
    return 0


def _frame(placed: Sequence[tuple[str, Record]]) -> "pd.DataFrame":
    """One table over all splits, values as they are, with what the suite asks about texts."""
    import pandas as pd

    rows = [{**record, "split": name, **_measured(record)} for name, record in placed]
    columns = [*Row.model_fields, "split", *_measured({})] if not rows else None
    return pd.DataFrame(rows, columns=columns, dtype=object)


def _measured(record: Record) -> Record:
    """Lengths count characters after NFKC; what is not text has none."""
    prompt, completion = _prompt(record), record.get("completion")
    return {
        "prompt": prompt,
        "prompt_characters": folded_length(prompt) if isinstance(prompt, str) else None,
        "completion_characters": folded_length(completion)
        if isinstance(completion, str)
        else None,
    }


def _prompt(record: Record) -> str | None:
    try:
        return text_of(Row.model_validate({**record, "completion": ""}).messages)
    except ValidationError:
        return None


def _result(
    expectation: SuiteExpectation, passed: bool, failing: Sequence[Record]
) -> ExpectationResult:
    sample = tuple(str(record.get("id")) for record in failing[:SAMPLE])
    return ExpectationResult(
        name=expectation.type,
        column=expectation.column,
        passed=passed,
        failed_rows=len(failing),
        sample_row_ids=sample,
    )


def _sorted_out(
    placed: Sequence[tuple[str, Record]], reasons: Mapping[int, tuple[str, ...]]
) -> tuple[dict[str, list[Row]], list[QuarantinedRow]]:
    left: dict[str, list[Row]] = {name: [] for name in SPLITS}
    failing: list[QuarantinedRow] = []
    for position, (name, record) in enumerate(placed):
        row = _row(record)
        if position in reasons or row is None:
            failing.append(
                _quarantined(record, reasons.get(position, ("not a whole row",)))
            )
        else:
            left[name].append(row)
    return left, failing


def _row(record: Record) -> Row | None:
    try:
        return Row.model_validate(record)
    except ValidationError:
        return None


def _quarantined(record: Record, reasons: Sequence[str]) -> QuarantinedRow:
    number = record.get("number")
    known = number if isinstance(number, int) else 0
    return QuarantinedRow(
        number=known,
        id=str(record.get("id")),
        reason="; ".join(reasons),
        excerpt=excerpt(str(record.get("completion"))),
    )


def _gx_suite(suite: Suite, path: Path = SUITE) -> "gx.ExpectationSuite":
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from pydantic.v1 import ValidationError as GxValidationError

    listed = [
        {**expectation.model_dump(), "meta": {POSITION: place}}
        for place, expectation in enumerate(suite.expectations)
    ]
    try:
        built = gx.ExpectationSuite(name=suite.name, expectations=listed)
    except (GreatExpectationsError, GxValidationError) as error:
        what = " ".join(str(error).split())[:160]
        raise ParameterError(
            f"The expectation suite {path} does not fit: {what}. Mend it: without it nothing passes."
        ) from error
    if len(built.expectations) != len(listed):
        missing = sorted(
            {entry["type"] for entry in listed}
            - {expectation.expectation_type for expectation in built.expectations}
        )
        raise ParameterError(
            f"The expectation suite {path} names {', '.join(missing)}, which great_expectations does not have. Correct the name."
        )
    return built


def _gx_validate(frame: "pd.DataFrame", suite: Suite, max_characters: int) -> Any:
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(
        globally=False, metric_calculations=False
    )
    asset = context.data_sources.add_pandas("pandas").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": frame}
    )
    return batch.validate(
        _gx_suite(suite),
        result_format="COMPLETE",
        expectation_parameters={"max_characters": max_characters},
    )


def _data_docs(outcome: Any) -> str:
    from great_expectations.render.renderer.page_renderer import (
        ValidationResultsPageRenderer,
    )
    from great_expectations.render.view.view import DefaultJinjaPageView

    outcome.results = in_order(outcome.results)
    for found in outcome.results:
        found.result = _escaped(found.result)
    document = ValidationResultsPageRenderer(run_info_at_end=True).render(outcome)
    page: str = DefaultJinjaPageView().render(document)  # type: ignore[no-untyped-call]
    return _repeatable(page)


def _repeatable(page: str) -> str:
    """Without the moment and the random ids of a run: equal data must give an equal file, or DVC would train again for it."""
    names = {
        found: f"element-{index}"
        for index, found in enumerate(dict.fromkeys(RANDOM_ID.findall(page)))
    }
    return MOMENT.sub("", RANDOM_ID.sub(lambda found: names[found.group()], page))


def _escaped(shown: Any) -> Any:
    """Every text in a result as HTML text: great_expectations puts them on its pages as they are."""
    if isinstance(shown, Mapping):
        return {key: _escaped(entry) for key, entry in shown.items()}
    if isinstance(shown, list | tuple | set):
        return [_escaped(entry) for entry in shown]
    return html.escape(shown) if isinstance(shown, str) else shown
