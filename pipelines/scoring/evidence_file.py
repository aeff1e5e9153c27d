"""The evidence: what each system answered to each prompt, with every statistic that a verdict is computed from, as Parquet."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, TypeAdapter

from core.errors import DamagedFile, IncompleteEvidence
from core.files import write_whole
from core.value import Value
from pipelines.metrics import FloatArray, ScoredRow
from pipelines.rows.contents import clusters_of
from pipelines.values.evidence import System
from pipelines.values.serving_spec import ServingSpec

Statistics = dict[str, tuple[float, ...]]
_MADE_BY = b"assay.made_by"
_MAKERS: TypeAdapter[dict[System, ServingSpec]] = TypeAdapter(dict[System, ServingSpec])


class EvidenceRow(Value):
    """One system, one prompt."""

    system: System
    group: str
    feature: str | None
    row: ScoredRow
    statistics: Statistics
    control_prompt_id: str | None
    """The prompt of another group whose references the negative control uses; None for all but the adapter."""
    control: Statistics
    """The statistics against those references."""
    content: str | None = None
    """The prompt's content (`pipelines.rows.contents`); None in evidence that is older than contents."""


class Evidence(Value):
    """The rows of every system, the same prompts in the same order for each."""

    rows: dict[System, tuple[EvidenceRow, ...]]
    made_by: dict[System, ServingSpec] = Field(default_factory=dict)
    """What gave each system's answers; empty in evidence from before it was written there."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the first row holds; `statistics` raises where another row lacks one."""
        return tuple(next(iter(self.rows.values()))[0].statistics)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each prompt."""
        return tuple(row.group for row in next(iter(self.rows.values())))

    @property
    def contents(self) -> tuple[str | None, ...]:
        """The content of each prompt."""
        return tuple(row.content for row in next(iter(self.rows.values())))

    @property
    def clusters(self) -> tuple[str, ...]:
        """The cluster of each prompt: what statistics draw. Groups that share a content are one."""
        return clusters_of(self.groups, self.contents)

    def statistics(self, system: System, metric: str) -> FloatArray:
        """One metric's statistics of one system, shape (prompts, statistics)."""
        return _matrix(
            metric, system, (row.statistics.get(metric) for row in self.rows[system])
        )

    def control(self, metric: str) -> FloatArray:
        """The adapter's statistics against references of other groups."""
        return _matrix(
            metric, "adapter", (row.control.get(metric) for row in self.rows["adapter"])
        )


def evidence_of(rows: Iterable[EvidenceRow]) -> Evidence:
    """Sort rows by system; systems that do not hold the same prompts, groups and references are `IncompleteEvidence`."""
    by_system: dict[System, list[EvidenceRow]] = {}
    for row in rows:
        by_system.setdefault(row.system, []).append(row)
    if not by_system:
        raise IncompleteEvidence(
            "The evidence holds no rows. Run the score stage again."
        )
    asked = {
        system: [_asked(row) for row in same] for system, same in by_system.items()
    }
    first = next(iter(asked))
    if len({prompt_id for prompt_id, *_ in asked[first]}) != len(asked[first]):
        raise IncompleteEvidence(
            f"The evidence of {first} holds a prompt twice. Run the score stage again."
        )
    for system, prompts in asked.items():
        if prompts != asked[first]:
            raise IncompleteEvidence(
                f"The evidence of {system} is not about the same prompts as that of {first}. Run the score stage again."
            )
    return Evidence(rows={system: tuple(same) for system, same in by_system.items()})


def write_evidence(path: Path, evidence: Evidence) -> None:
    """Write every row as Parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [_record(row) for rows in evidence.rows.values() for row in rows]
    makers = {
        system: spec.model_dump_json() for system, spec in evidence.made_by.items()
    }
    schema = _schema(records[0]).with_metadata({_MADE_BY: json.dumps(makers)})
    table = pa.Table.from_pylist(records, schema=schema)
    write_whole(
        path, lambda temporary: pq.write_table(table, temporary, compression="zstd")
    )


def read_evidence(path: Path) -> Evidence:
    """Read what `write_evidence` wrote; anything else is `DamagedFile`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        rows = evidence_of([_row(record) for record in table.to_pylist()])
        return rows.model_copy(update={"made_by": _makers(table.schema.metadata or {})})
    except (
        OSError,
        pa.ArrowException,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        raise DamagedFile(
            f"{path} is not a whole evidence file ({type(error).__name__}). Run the score stage again."
        ) from error


def _makers(metadata: dict[bytes, bytes]) -> dict[System, ServingSpec]:
    return _MAKERS.validate_python(
        {
            system: ServingSpec.model_validate_json(spec)
            for system, spec in json.loads(metadata.get(_MADE_BY, b"{}")).items()
        }
    )


def read_predictions(path: Path) -> dict[str, str]:
    """What the adapter answered, by prompt id, without reading anything else; `DamagedFile` where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["system", "prompt_id", "prediction"])
        rows = [row for row in table.to_pylist() if row["system"] == "adapter"]
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise DamagedFile(
            f"{path} is not a whole evidence file ({type(error).__name__}). Fetch the package again."
        ) from error
    texts = {row["prompt_id"]: row["prediction"] for row in rows}
    whole = all(isinstance(word, str) for row in texts.items() for word in row)
    if not texts or len(texts) != len(rows) or not whole:
        raise DamagedFile(
            f"{path} does not hold one answer of the adapter to each prompt. Fetch the package again."
        )
    return texts


def _asked(
    row: EvidenceRow,
) -> tuple[str, str, str | None, str | None, tuple[str, ...]]:
    return row.row.prompt_id, row.group, row.feature, row.content, row.row.references


def _matrix(
    metric: str, system: System, rows: Iterable[tuple[float, ...] | None]
) -> FloatArray:
    statistics = list(rows)
    if any(row is None for row in statistics):
        raise IncompleteEvidence(
            f"The evidence of {system} lacks {metric} for {statistics.count(None)} of {len(statistics)} prompts."
        )
    return np.array(statistics, dtype=np.float64)


def _record(row: EvidenceRow) -> dict[str, Any]:
    document = row.model_dump(mode="json")
    scored = document.pop("row")
    statistics, control = document.pop("statistics"), document.pop("control")
    return {
        **document,
        **scored,
        **{f"statistics.{name}": numbers for name, numbers in statistics.items()},
        **{f"control.{name}": control.get(name) for name in statistics},
    }


def _row(record: dict[str, Any]) -> EvidenceRow:
    def named(prefix: str) -> Statistics:
        return {
            key.removeprefix(prefix): tuple(numbers)
            for key, numbers in record.items()
            if key.startswith(prefix) and numbers is not None
        }

    whole = {
        name: record[name]
        for name in ("system", "group", "feature", "control_prompt_id")
    }
    whole["content"] = record.get(
        "content"
    )  # files that are older than contents have no such column
    scored = {name: record[name] for name in ScoredRow.model_fields}
    return EvidenceRow.model_validate(
        {
            **whole,
            "row": scored,
            "statistics": named("statistics."),
            "control": named("control."),
        }
    )


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
    lists = {"references": pa.list_(pa.string()), "losses": pa.list_(loss)}
    return pa.schema(
        [
            (
                name,
                pa.list_(pa.float64()) if "." in name else lists.get(name, pa.string()),
            )
            for name in record
        ]
    )
