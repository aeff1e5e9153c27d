"""What lm-evaluation-harness wrote, as scores and as differences of the same documents.

It writes `results_TIME.json` with a score for each task, metric and filter, and a file
`samples_TASK_TIME.jsonl` with a line for each document.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import DamagedFile
from core.value import Value
from pipelines.metrics import FloatArray
from pipelines.statistics.jackknife import reach_of_t
from pipelines.values.dataset import Interval

_TAIL = 0.025
_TOLERANCE = 1e-9
_NO_FILTER = "none"
_PARTS = (
    "results",
    "n-samples",
    "higher_is_better",
    "versions",
    "n-shot",
    "task_hashes",
)


class Measure(Value):
    """What a score is of."""

    task: str
    metric: str
    filter: str

    @property
    def title(self) -> str:
        """As MLflow and people see it; the filter only where there is one."""
        metric = self.metric
        if self.filter != _NO_FILTER:
            metric = f"{metric}-{self.filter}"
        return f"{self.task}/{metric}"


class AskedTask(Value):
    """A task as the program asked it: the same for base and adapter."""

    name: str
    version: str
    shots: int
    documents: int
    asked_sha256: str
    """The program's own digest of documents, prompts and right answers."""


class HarnessScore(Value):
    """One task by one metric: the program's own scores, and how the adapter compares."""

    measure: Measure
    higher_is_better: bool
    # None where the program gives no finite number.
    base: float | None
    adapter: float | None
    difference: Interval | None
    """How much better the adapter is, document by document, at 95 %."""
    unbounded: str | None = None
    """Why there is no difference with bounds."""


class _Sample(BaseModel):
    """One document, with a number or more for each metric."""

    model_config = ConfigDict(extra="allow")

    doc_id: int
    filter: str

    def number_of(self, metric: str) -> float | None:
        """None also where it is a list, which only the metric's own formula can read."""
        number = (self.model_extra or {}).get(metric)
        if isinstance(number, int | float) and math.isfinite(number):
            return float(number)
        return None


@dataclass(frozen=True)
class _Results:
    """The program's file of results, and where its samples are."""

    folder: Path
    document: dict[str, Any]

    @property
    def tasks(self) -> dict[str, AskedTask]:
        """The tasks with documents of their own; a group has none."""
        found = {}
        for name, counts in sorted(self.document["n-samples"].items()):
            found[name] = AskedTask(
                name=name,
                version=str(self.document["versions"].get(name)),
                shots=self.document["n-shot"].get(name) or 0,
                documents=counts["effective"],
                asked_sha256=self.document["task_hashes"][name],
            )
        return found

    def scores(self, task: str) -> dict[Measure, float | None]:
        """A task's scores; None for one that is no finite number."""
        found: dict[Measure, float | None] = {}
        for key, score in self.document["results"][task].items():
            metric, comma, name = key.partition(",")
            # The other entries are the task's name, and standard errors of these.
            if not comma or metric.endswith("_stderr"):
                continue
            measure = Measure(task=task, metric=metric, filter=name)
            is_number = isinstance(score, int | float) and math.isfinite(score)
            found[measure] = float(score) if is_number else None
        return found

    def is_higher_better(self, measure: Measure) -> bool:
        """Whether a higher score is the better one."""
        of_task = self.document["higher_is_better"].get(measure.task, {})
        # It does not say it of every metric; most are better where they are higher.
        return bool(of_task.get(measure.metric, True))


def read_scores(
    base: Path, adapter: Path
) -> tuple[tuple[AskedTask, ...], tuple[HarnessScore, ...]]:
    """The tasks and scores that both folders hold.

    `DamagedFile` where a folder is not as the program writes it, or both were not asked the same.
    """
    own, other = _read_results(adapter), _read_results(base)
    if own.tasks != other.tasks:
        raise DamagedFile(
            "Base and adapter were not asked the same documents. Leave the tasks as they are "
            "while they are asked, and ask again."
        )
    scores = [score for task in own.tasks for score in _compare(task, own, other)]
    return tuple(own.tasks.values()), tuple(scores)


def _compare(task: str, own: _Results, other: _Results) -> Iterator[HarnessScore]:
    adapters, bases = own.scores(task), other.scores(task)
    for measure in adapters | bases:
        adapter, base = adapters.get(measure), bases.get(measure)
        is_higher_better = own.is_higher_better(measure)
        differences = _differences(measure, own, other)
        difference = None
        unbounded = _why_unbounded(differences, adapter, base)
        if unbounded is None:
            sign = 1.0 if is_higher_better else -1.0
            difference = _bounded(sign * differences)
        yield HarnessScore(
            measure=measure,
            higher_is_better=is_higher_better,
            base=base,
            adapter=adapter,
            difference=difference,
            unbounded=unbounded,
        )


def _why_unbounded(
    differences: FloatArray, adapter: float | None, base: float | None
) -> str | None:
    """Why documents give the difference of the scores no bounds; None where they do."""
    if adapter is None or base is None:
        return "no finite score of both"
    if not len(differences):
        return "no number of each document"
    # Of a perplexity, or of a sum of weights, the documents' own numbers have another mean.
    is_mean = abs(differences.mean() - (adapter - base)) <= _TOLERANCE
    if not is_mean:
        return "no mean over documents"
    if len(differences) < 2:
        return "one document"
    # Two systems that score the same everywhere show no spread to take bounds from.
    if not differences.std():
        return "no spread between documents"
    return None


def _bounded(differences: FloatArray) -> Interval:
    count = len(differences)
    error = differences.std(ddof=1) / math.sqrt(count)
    reach = float(error * reach_of_t(_TAIL, count))
    estimate = float(differences.mean())
    return Interval(estimate=estimate, low=estimate - reach, high=estimate + reach)


def _differences(measure: Measure, own: _Results, other: _Results) -> FloatArray:
    """Adapter less base, document by document; empty where one of them has no numbers."""
    adapters = _read_samples(measure, own.folder)
    bases = _read_samples(measure, other.folder)
    if adapters.keys() != bases.keys():
        return np.array([])
    pairs = [(adapters[document], bases[document]) for document in sorted(adapters)]
    return np.array([adapter - base for adapter, base in pairs])


def _read_samples(measure: Measure, folder: Path) -> dict[int, float]:
    """The number of each document, by its place."""
    # A digit: the samples of `arc_easy` are none of a task `arc`.
    path = _only(folder, f"samples_{escape(measure.task)}_[0-9]*.jsonl")
    numbers = {}
    # Not `splitlines`: a document's text holds other ends of lines as they are.
    lines = path.read_text(encoding="utf-8").split("\n")
    for line in filter(None, lines):
        try:
            sample = _Sample.model_validate_json(line)
        except ValidationError as error:
            raise DamagedFile(
                f"{path} has a line that is no document's. Ask again."
            ) from error
        number = sample.number_of(measure.metric)
        if sample.filter == measure.filter and number is not None:
            numbers[sample.doc_id] = number
    return numbers


def _read_results(folder: Path) -> _Results:
    path = _only(folder, "results_*.json")
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFile(f"{path} is no JSON. Ask again.") from error
    for part in _PARTS:
        if part not in document:
            raise DamagedFile(
                f"{path} has no {part}: lm_eval 0.4.13 and later write it. Install one of them."
            )
    return _Results(folder, document)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise DamagedFile(
            f"{folder} holds {len(found)} files {pattern}, where lm-evaluation-harness writes one. "
            "Ask again."
        )
    return found[0]
