"""The evidence as Parquet: each system's answer to each prompt, with its statistics.

A verdict is computed from these statistics alone.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, TypeAdapter

from core.errors import DamagedFile, IncompleteEvidence
from core.files import write_atomically
from core.value import Value
from pipelines.metrics import (
    FloatArray,
    Metric,
    OwnMetric,
    References,
    ScoredRow,
    metric_named,
)
from pipelines.rows.contents import assign_clusters
from pipelines.values.evidence import System
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.own_metric import BUILT_IN, OwnMetricRecord
from pipelines.values.sampling import SampledAs
from pipelines.values.serving_spec import ServingSpec

# By metric: what one row adds to the sums that the metric's score is computed from.
Statistics = dict[str, tuple[float, ...]]
_MADE_BY = b"assay.made_by"
_SETTINGS = b"assay.metric_settings"
_OWN_METRICS = b"assay.own_metrics"
_PREFIXES = b"assay.prefixes"
_SAMPLED_AS = b"assay.sampled_as"
_RECORDS: TypeAdapter[tuple[OwnMetricRecord, ...]] = TypeAdapter(
    tuple[OwnMetricRecord, ...]
)
ROWS_WRITTEN_AT_ONCE = 16_384
"""More than are read at once: only among these are equal references stored once."""
_ROWS_READ_AT_ONCE = 2048
_LATER_COLUMNS = ("tests", "samples")
_LATER_NUMBERS = ("tokens", "adapter_bytes")
_MAKERS: TypeAdapter[dict[System, ServingSpec]] = TypeAdapter(dict[System, ServingSpec])
_DIGESTS: TypeAdapter[dict[System, str]] = TypeAdapter(dict[System, str])


class EvidenceRow(Value):
    """One system, one prompt."""

    system: System
    group: str
    feature: str | None
    row: ScoredRow
    statistics: Statistics
    control_prompt_id: str | None
    """The prompt of another group whose references the negative control uses.

    None for all systems but the adapter.
    """
    control: Statistics
    """The statistics against those references."""
    content: str | None = None
    """The prompt's content (`pipelines.rows.contents`); None in older evidence."""
    # Left out where answers are greedy: their evidence has no such columns.
    sample_scores: Statistics = Field(default={}, exclude_if=lambda scores: not scores)
    """By metric, the score of each of the row's samples."""


class EvidenceHeader(Value):
    """What holds for every row of an evidence file."""

    made_by: dict[System, ServingSpec] = Field(default_factory=dict)
    settings: MetricSettings | None = None
    own_metrics: tuple[OwnMetricRecord, ...] = ()
    prefixes: dict[System, str] = Field(default_factory=dict)
    sampled_as: SampledAs | None = None


class Evidence(Value):
    """The rows of every system, the same prompts in the same order for each."""

    # `evidence_of` checks that they are the same.
    rows: dict[System, tuple[EvidenceRow, ...]]
    made_by: dict[System, ServingSpec] = Field(default_factory=dict)
    """What gave each system's answers; empty in older evidence."""
    settings: MetricSettings | None = None
    """How the statistics were counted.

    None in older evidence: under the defaults, and before metrics said where they do not apply.
    """
    own_metrics: tuple[OwnMetricRecord, ...] = ()
    """The metrics of the project's own among the statistics."""
    prefixes: dict[System, str] = Field(default_factory=dict)
    """Digest of what stood before the prompts of a system: `pipelines.values.examples`."""
    sampled_as: SampledAs | None = None
    """How the samples were drawn whose mean the statistics are; None: answers are greedy."""

    def metric_named(self, name: str) -> Metric:
        """The metric as this evidence was counted, whatever a run would set today.

        One of the project's own comes from what the evidence keeps of it: no file is run.
        """
        record = self.own_metric(name)
        if record is not None:
            return OwnMetric(record)
        return metric_named(name, self.settings or MetricSettings())

    def own_metric(self, name: str) -> OwnMetricRecord | None:
        """What is kept of an own metric; None for a built-in one."""
        for record in self.own_metrics:
            if record.name == name:
                return record
        return None

    @property
    def references(self) -> References:
        """The references of each prompt."""
        rows = self._rows_of_any_system
        return [row.row.references for row in rows]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the first row holds; `statistics` raises where another row lacks one."""
        rows = self._rows_of_any_system
        first_row = rows[0]
        return tuple(first_row.statistics)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each prompt."""
        rows = self._rows_of_any_system
        return tuple(row.group for row in rows)

    @property
    def contents(self) -> tuple[str | None, ...]:
        """The content of each prompt."""
        rows = self._rows_of_any_system
        return tuple(row.content for row in rows)

    @property
    def clusters(self) -> tuple[str, ...]:
        """The cluster of each prompt, which statistics draw as one.

        Groups that share a content are one cluster.
        """
        return assign_clusters(self.groups, self.contents)

    @property
    def _rows_of_any_system(self) -> tuple[EvidenceRow, ...]:
        """The prompts, groups and contents are the same for every system."""
        systems = iter(self.rows.values())
        return next(systems)

    def statistics(self, system: System, metric: str) -> FloatArray:
        """One metric's statistics of one system, shape (prompts, statistics).

        `IncompleteEvidence` where a row has none.
        """
        rows = self.rows[system]
        statistics = [row.statistics.get(metric) for row in rows]
        return _matrix(metric, system, statistics)

    def control(self, metric: str) -> FloatArray:
        """The adapter's statistics against references of other groups, in the same shape."""
        # Only the adapter has them: the control asks whether its answers fit their own prompts.
        rows = self.rows["adapter"]
        statistics = [row.control.get(metric) for row in rows]
        return _matrix(metric, "adapter", statistics)


def evidence_of(rows: Iterable[EvidenceRow]) -> Evidence:
    """Evidence from rows in any order of systems.

    `IncompleteEvidence` where systems do not hold the same prompts, groups and references in the
    same order, or a prompt occurs twice.
    """
    by_system: dict[System, list[EvidenceRow]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row)
    if not by_system:
        raise IncompleteEvidence(
            "The evidence holds no rows. Run the score stage again."
        )
    questions = {
        system: [_question(row) for row in same] for system, same in by_system.items()
    }
    reference = next(iter(questions))
    # Of one system alone: the others are compared with it as a whole below.
    ids = [question.prompt_id for question in questions[reference]]
    if len(set(ids)) != len(ids):
        raise IncompleteEvidence(
            f"The evidence of {reference} holds a prompt twice. Run the score stage again."
        )
    for system, own in questions.items():
        if own != questions[reference]:
            raise IncompleteEvidence(
                f"The evidence of {system} is not about the same prompts as that of "
                f"{reference}. Run the score stage again."
            )
    return Evidence(rows={system: tuple(same) for system, same in by_system.items()})


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Write every row as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for own in evidence.rows.values() for row in own]
    # What answered goes into the file's metadata: it is the same for every row of a system.
    makers = {
        system: spec.model_dump_json() for system, spec in evidence.made_by.items()
    }
    metadata = {_MADE_BY: json.dumps(makers)}
    if evidence.settings is not None:
        metadata[_SETTINGS] = evidence.settings.model_dump_json()
    if evidence.own_metrics:
        metadata[_OWN_METRICS] = _RECORDS.dump_json(evidence.own_metrics).decode()
    if evidence.prefixes:
        metadata[_PREFIXES] = _DIGESTS.dump_json(evidence.prefixes).decode()
    if evidence.sampled_as is not None:
        metadata[_SAMPLED_AS] = evidence.sampled_as.model_dump_json()
    schema = _schema(_to_record(rows[0])).with_metadata(metadata)

    # References repeat from system to system: compressed, they are stored about once.
    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            # Some at a time: as records, all rows would fill the memory a second time.
            for start in range(0, len(rows), ROWS_WRITTEN_AT_ONCE):
                some = rows[start : start + ROWS_WRITTEN_AT_ONCE]
                records = [_to_record(row) for row in some]
                table = pa.Table.from_pylist(records, schema=schema)
                writer.write_table(table)

    write_atomically(path, write)


def read_evidence(path: Path) -> Evidence:
    """Read what `write_evidence` wrote; `DamagedFile` where the file holds anything else."""
    import pyarrow.parquet as pq

    with whole_file(path):
        with pq.ParquetFile(path) as file:
            rows = [
                _from_record(record)
                for batch in file.iter_batches(_ROWS_READ_AT_ONCE)
                for record in batch.to_pylist()
            ]
            header = read_header(file.schema_arrow.metadata or {})
        evidence = evidence_of(rows)
        _check_numbers(rows, header.own_metrics)
        _check_samples(rows, header.sampled_as)
        return evidence.model_copy(update=dict(header))


@contextmanager
def whole_file(path: Path) -> Iterator[None]:
    """Within, whatever an evidence file of somebody else's may hold is `DamagedFile`."""
    import pyarrow as pa

    try:
        yield
    # A file that somebody else wrote can be wrong in any of these ways.
    except (
        OSError,
        pa.ArrowException,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise damaged_evidence(path, type(error).__name__) from error


def damaged_evidence(path: Path, fault: str) -> DamagedFile:
    """The error that names an evidence file and what is wrong with it."""
    return DamagedFile(
        f"{path} is not a whole evidence file ({fault}). Run the score stage again."
    )


def read_header(metadata: dict[bytes, bytes]) -> EvidenceHeader:
    """What the file says of all of its rows; `ValueError` where it says anything else."""
    return EvidenceHeader(
        made_by=_read_makers(metadata),
        settings=_read_settings(metadata),
        own_metrics=_read_records(metadata),
        prefixes=_DIGESTS.validate_json(metadata.get(_PREFIXES, b"{}")),
        sampled_as=_read_sampled_as(metadata),
    )


def _read_makers(metadata: dict[bytes, bytes]) -> dict[System, ServingSpec]:
    texts = json.loads(metadata.get(_MADE_BY, b"{}"))
    specs = {
        system: ServingSpec.model_validate_json(text) for system, text in texts.items()
    }
    return _MAKERS.validate_python(specs)


def _read_settings(metadata: dict[bytes, bytes]) -> MetricSettings | None:
    if _SETTINGS not in metadata:
        return None
    return MetricSettings.model_validate_json(metadata[_SETTINGS])


def _read_records(metadata: dict[bytes, bytes]) -> tuple[OwnMetricRecord, ...]:
    records = _RECORDS.validate_json(metadata.get(_OWN_METRICS, b"[]"))
    names = [record.name for record in records]
    # Each metric is counted in one way, and Assay's own names stand for Assay's own metrics.
    if len(set(names)) != len(names) or not set(names).isdisjoint(BUILT_IN):
        raise ValueError(names)
    return records


def _read_sampled_as(metadata: dict[bytes, bytes]) -> SampledAs | None:
    if _SAMPLED_AS not in metadata:
        return None
    return SampledAs.model_validate_json(metadata[_SAMPLED_AS])


def _check_samples(rows: list[EvidenceRow], drawn: SampledAs | None) -> None:
    """Every row has as many samples, and as many scores of them, as the file says."""
    expected = 0 if drawn is None else drawn.samples
    for row in rows:
        scores = row.sample_scores.values()
        has_all = len(row.row.samples) == expected
        if not has_all or any(len(numbers) != expected for numbers in scores):
            raise ValueError(row.row.prompt_id)


def _check_numbers(
    rows: list[EvidenceRow], records: tuple[OwnMetricRecord, ...]
) -> None:
    """An own metric gives every row the numbers that its mean or its formula is made of."""
    for record in records:
        for row in rows:
            for statistics in (row.statistics, row.control):
                numbers = statistics.get(record.name)
                if numbers is not None and len(numbers) != record.numbers:
                    raise ValueError(record.name)


def read_predictions(path: Path) -> dict[str, str]:
    """The adapter's answers by prompt identifier; no other column is read.

    `DamagedFile` where the file does not hold one answer to each prompt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # These columns alone: a release needs the answers, not the losses and statistics.
        table = pq.read_table(path, columns=["system", "prompt_id", "prediction"])
        rows = [row for row in table.to_pylist() if row["system"] == "adapter"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        kind = type(error).__name__
        raise DamagedFile(
            f"{path} is not a whole evidence file ({kind}). Fetch the package again."
        ) from error
    # Fewer texts than rows: a prompt occurs twice, and one of its answers was dropped here.
    texts = {row["prompt_id"]: row["prediction"] for row in rows}
    has_one_each = bool(texts) and len(texts) == len(rows)
    cells = [cell for pair in texts.items() for cell in pair]
    is_text = all(isinstance(cell, str) for cell in cells)
    if not has_one_each or not is_text:
        raise DamagedFile(
            f"{path} does not hold one answer of the adapter to each prompt. "
            "Fetch the package again."
        )
    return texts


class _Question(NamedTuple):
    """What a row answers, which must be the same for every system."""

    prompt_id: str
    group: str
    feature: str | None
    content: str | None
    references: tuple[str, ...]
    tests: tuple[str, ...]


def _question(row: EvidenceRow) -> _Question:
    return _Question(
        prompt_id=row.row.prompt_id,
        group=row.group,
        feature=row.feature,
        content=row.content,
        references=row.row.references,
        tests=row.row.tests,
    )


def _matrix(
    metric: str, system: System, rows: list[tuple[float, ...] | None]
) -> FloatArray:
    # Never a zero in place of what could not be scored.
    missing = rows.count(None)
    if missing:
        prompts = len(rows)
        raise IncompleteEvidence(
            f"The evidence of {system} lacks {metric} for {missing} of {prompts} prompts."
        )
    return np.array(rows, dtype=np.float64)


def _to_record(row: EvidenceRow) -> dict[str, Any]:
    """One Parquet record: a column for each field, and for each metric's statistics."""
    # Flat columns, so that any Parquet reader shows them.
    document = row.model_dump(mode="json")
    scored = document.pop("row")
    statistics = document.pop("statistics")
    control = document.pop("control")
    sample_scores = document.pop("sample_scores", {})
    of_metrics = {f"statistics.{name}": pair for name, pair in statistics.items()}
    # One column for each metric in every row, or the rows would be no table.
    of_controls = {f"control.{name}": control.get(name) for name in statistics}
    of_samples = {f"sample.{name}": scores for name, scores in sample_scores.items()}
    return {
        **document,
        **scored,
        **of_metrics,
        **of_controls,
        **of_samples,
    }


def _from_record(record: dict[str, Any]) -> EvidenceRow:
    document = {
        "system": record["system"],
        "group": record["group"],
        "feature": record["feature"],
        "control_prompt_id": record["control_prompt_id"],
        # Older files have no column for the content.
        "content": record.get("content"),
        "row": _scored_fields(record),
        "statistics": _columns_with_prefix(record, "statistics."),
        "control": _columns_with_prefix(record, "control."),
        "sample_scores": _columns_with_prefix(record, "sample."),
    }
    return EvidenceRow.model_validate(document)


def _scored_fields(record: dict[str, Any]) -> dict[str, Any]:
    fields = {
        name: record[name]
        for name in ScoredRow.model_fields
        if name not in (*_LATER_COLUMNS, *_LATER_NUMBERS)
    }
    # Only rows with tests, only sampled ones and only newer evidence have such columns.
    for name in _LATER_COLUMNS:
        fields[name] = record.get(name) or ()
    for name in _LATER_NUMBERS:
        fields[name] = record.get(name)
    return fields


def _columns_with_prefix(record: dict[str, Any], prefix: str) -> Statistics:
    return {
        name.removeprefix(prefix): tuple(numbers)
        for name, numbers in record.items()
        if name.startswith(prefix) and numbers is not None
    }


def _schema(record: dict[str, Any]) -> Any:
    """Types by name, so that a column without a single value has the same type as one with."""
    import pyarrow as pa

    loss = pa.struct(
        [
            ("prompt_id", pa.string()),
            ("reference", pa.int64()),
            ("nats", pa.float64()),
            ("tokens", pa.int64()),
            ("utf8_bytes", pa.int64()),
        ]
    )
    lists = {
        "references": pa.list_(pa.string()),
        "tests": pa.list_(pa.string()),
        "samples": pa.list_(pa.string()),
        "losses": pa.list_(loss),
        "tokens": pa.int64(),
        "adapter_bytes": pa.int64(),
    }
    numbers = pa.list_(pa.float64())
    fields = []
    for name in record:
        # `statistics.chrf` and the like; no field of a row has a dot in its name.
        is_statistics = "." in name
        kind = numbers if is_statistics else lists.get(name, pa.string())
        fields.append((name, kind))
    return pa.schema(fields)
