"""Own metrics in stored evidence: counted again by the project's file, never by a stored one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import AssayError
from core.files import sha256_of
from pipelines.gates.comparisons import list_differences
from pipelines.metrics import Metric
from pipelines.metrics.own import count_rows
from pipelines.metrics.own_file import find_same_file
from pipelines.metrics.unit_tests import UnitTests
from pipelines.sandbox.self_check import check_sandbox
from pipelines.scoring.evidence_file import Evidence, EvidenceRow
from pipelines.scoring.scores import list_scored_rows

COPIES = "own_metrics"
"""Folder of the files' texts beside the evidence: to be read by people, and never run."""


@dataclass(frozen=True)
class MetricsAtHand:
    """Metrics that can count again, and a sentence for each own one that cannot or says else."""

    metrics: tuple[Metric, ...]
    differences: tuple[str, ...]


def copy_name(metric: str) -> str:
    """The copy of a metric's file: by this name nothing imports it."""
    return f"{COPIES}/{metric}.py.txt"


def find_metrics(
    evidence: Evidence, rows: list[EvidenceRow], project: Path | None
) -> MetricsAtHand:
    """The metrics of evidence, ready to count these rows again.

    Of an own one only the project's file counts, and only where its bytes are those that counted.
    A number that cannot be counted again is a difference.
    """
    metrics: list[Metric] = []
    differences: list[str] = []
    for name in evidence.metrics:
        record = evidence.own_metric(name)
        if record is None:
            metric = evidence.metric_named(name)
            reason = _why_not_here(metric)
            if reason is None:
                metrics.append(metric)
            else:
                differences.append(f"evidence.{name}: not counted again: {reason}")
            continue
        # Every kind of fault: what cannot be counted again must not pass, nor hide the rest.
        try:
            file = find_same_file(record, project)
            counted = count_rows(file, list_scored_rows(rows), evidence.references)
        except AssayError as error:
            differences.append(f"evidence.{name}: not counted again: {error}")
            continue
        metrics.append(counted)
        # Unit, direction and scale are the file's word, too.
        differences += list_differences(
            f"evidence.{name}",
            record.model_dump(mode="json"),
            counted.record.model_dump(mode="json"),
        )
    return MetricsAtHand(tuple(metrics), tuple(differences))


def _why_not_here(metric: Metric) -> str | None:
    """Why a built-in metric cannot count on this machine; None where it can."""
    if not isinstance(metric, UnitTests):
        return None
    try:
        check_sandbox()
    except AssayError as error:
        return str(error)
    return None


def copy_differences(folder: Path, evidence: Evidence) -> Iterator[str]:
    """A sentence for each own metric whose text beside the evidence is not the one that counted."""
    for record in evidence.own_metrics:
        name = copy_name(record.name)
        copy = folder / name
        # Read as bytes and compared: a copy is for people, and nothing runs it.
        place = f"evidence.{record.name}"
        if not copy.is_file():
            yield f"{place}: there is no {name}"
        elif sha256_of(copy) != record.sha256:
            yield f"{place}: {name} is another text than the one that counted"
