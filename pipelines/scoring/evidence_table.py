"""An evidence file by columns: numbers of all prompts, and the texts of a few.

`read_evidence` holds every text of every system at once. A page shows ten of them, so that this one
reads what it is asked for, however large the file is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import IncompleteEvidence
from core.files import digest_of_json
from pipelines.metrics import FloatArray, Metric, OwnMetric, ScoredRow, metric_named
from pipelines.rows.contents import assign_clusters
from pipelines.scoring.evidence_file import (
    EvidenceHeader,
    damaged_evidence,
    read_header,
    whole_file,
)
from pipelines.values.evidence import System, TokenLoss
from pipelines.values.metric_settings import MetricSettings

_ROWS_AT_ONCE = 2048
_PREFIX = "statistics."


@dataclass(frozen=True)
class Answer:
    """One system's answer to one prompt, with the prompt's references."""

    prompt_id: str
    group: str
    prediction: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class EvidenceTable:
    """The file at `path`; each question reads the columns that answer it."""

    path: Path

    @cached_property
    def header(self) -> EvidenceHeader:
        """What answered, and how it was counted."""
        import pyarrow.parquet as pq

        with whole_file(self.path):
            return read_header(pq.read_schema(self.path).metadata or {})

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that have a column."""
        # `control.` columns are of the same metrics, against other references.
        columns = [name for name in self._names if name.startswith(_PREFIX)]
        return tuple(name.removeprefix(_PREFIX) for name in columns)

    @cached_property
    def systems(self) -> tuple[System, ...]:
        """Who answered, in the order of the file."""
        return tuple(dict.fromkeys(self._column("system")))

    @cached_property
    def prompt_ids(self) -> tuple[str, ...]:
        """Each prompt once, in the order in which every system holds them.

        `DamagedFile` where two systems do not hold the same prompts, or a prompt occurs twice.
        """
        everybody = self._column("prompt_id")
        places = self._places
        own = [everybody[place] for place in next(iter(places.values()))]
        is_same = all(
            [everybody[place] for place in others] == own for others in places.values()
        )
        if not is_same or len(set(own)) != len(own):
            raise damaged_evidence(self.path, "prompts")
        return tuple(own)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The group of each prompt."""
        return tuple(self._of_prompts("group"))

    @cached_property
    def features(self) -> tuple[str | None, ...]:
        """The sensitive feature of each prompt."""
        return tuple(self._of_prompts("feature"))

    @cached_property
    def contents(self) -> tuple[str | None, ...]:
        """The content of each prompt; older files know none."""
        return tuple(self._of_prompts("content"))

    @property
    def clusters(self) -> tuple[str, ...]:
        """The cluster of each prompt: groups that share a content are one."""
        return assign_clusters(self.groups, self.contents)

    def metric_named(self, name: str) -> Metric:
        """The metric as this file was counted; no file of an own metric is run."""
        for record in self.header.own_metrics:
            if record.name == name:
                return OwnMetric(record)
        return metric_named(name, self.header.settings or MetricSettings())

    def statistics(self, system: System, metric: str) -> FloatArray:
        """One metric's statistics of one system, shape (prompts, statistics).

        `IncompleteEvidence` where a prompt has none.
        """
        import pyarrow.compute as pc

        with whole_file(self.path):
            whole = self._array(f"{_PREFIX}{metric}")
            rows = whole.take(self._places[system])
            missing = rows.null_count
            # Never a zero in place of what could not be scored.
            if missing:
                raise IncompleteEvidence(
                    f"The evidence of {system} lacks {metric} for {missing} of {len(rows)} prompts."
                )
            (width,) = pc.unique(pc.list_value_length(rows)).to_pylist()
            # As one array: a list of Python's own numbers would take four times the room.
            numbers = rows.flatten().to_numpy(zero_copy_only=False)
            return np.asarray(numbers, dtype=np.float64).reshape(len(rows), width)

    def answers(self, system: System, prompt_ids: Collection[str]) -> dict[str, Answer]:
        """A system's answers to these prompts alone, by their identifiers."""
        # A set, since every row of the file is looked up in it.
        wanted = set(prompt_ids)
        names = ["system", "prompt_id", "group", "prediction", "references"]
        found = {}
        # Within, too: a file of somebody else's may lack a column, or hold nothing in it.
        with whole_file(self.path):
            for record in self._records(names):
                if record["system"] == system and record["prompt_id"] in wanted:
                    answer = _answer_of(record)
                    found[answer.prompt_id] = answer
        return found

    def scored_rows(
        self, system: System, prompt_ids: Collection[str]
    ) -> Iterator[ScoredRow]:
        """References and losses of these prompts; no answer, which no signature asks for."""
        wanted = set(prompt_ids)
        names = ["system", "prompt_id", "references", "losses"]
        with whole_file(self.path):
            for record in self._records(names):
                if record["system"] == system and record["prompt_id"] in wanted:
                    yield ScoredRow(
                        prompt_id=record["prompt_id"],
                        prediction="",
                        references=tuple(record["references"]),
                        losses=tuple(TokenLoss(**loss) for loss in record["losses"]),
                    )

    def reference_digests(self, system: System) -> dict[str, str]:
        """A digest of each prompt's references: a prompt with others is another question."""
        digests = {}
        names = ["system", "prompt_id", "references"]
        with whole_file(self.path):
            for record in self._records(names):
                # The references of a prompt are in the row of every system.
                if record["system"] == system:
                    references = record["references"]
                    name = record["prompt_id"]
                    digests[name] = digest_of_json(references)
        return digests

    @cached_property
    def _places(self) -> dict[System, list[int]]:
        """Where each system's rows are in the file."""
        places: dict[System, list[int]] = {}
        for place, system in enumerate(self._column("system")):
            places.setdefault(system, []).append(place)
        if not places:
            raise damaged_evidence(self.path, "rows")
        return places

    def _of_prompts(self, name: str) -> Iterator[Any]:
        column = self._column(name)
        # The same for every system: the first one's rows say it.
        for place in next(iter(self._places.values())):
            yield column[place]

    def _column(self, name: str) -> list[Any]:
        """One column; of nothing where an older file lacks it."""
        with whole_file(self.path):
            is_lacking = name == "content" and name not in self._names
            if is_lacking:
                return [None] * len(self._column("system"))
            values: list[Any] = self._array(name).to_pylist()
        return values

    def _array(self, name: str) -> Any:
        import pyarrow.parquet as pq

        names = [name]
        with pq.ParquetFile(self.path) as file:
            table = file.read(columns=names)
        column = table.column(
            name,
        )
        # One array in place of one a row group, so that places count through.
        return column.combine_chunks()

    @cached_property
    def _names(self) -> tuple[str, ...]:
        import pyarrow.parquet as pq

        with whole_file(self.path):
            return tuple(pq.read_schema(self.path).names)

    def _records(self, names: list[str]) -> Iterator[dict[str, Any]]:
        """The rows with these columns, a batch in memory at a time."""
        import pyarrow.parquet as pq

        with whole_file(self.path), pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=names):
                yield from batch.to_pylist()


def _answer_of(record: dict[str, Any]) -> Answer:
    answer = Answer(
        prompt_id=record["prompt_id"],
        group=record["group"],
        prediction=record["prediction"],
        references=tuple(record["references"]),
    )
    texts = (answer.prompt_id, answer.group, answer.prediction, *answer.references)
    # A file may hold nulls or numbers where this one says texts.
    are_texts = all(isinstance(text, str) for text in texts)
    if not are_texts:
        raise TypeError("a text is none")
    return answer
