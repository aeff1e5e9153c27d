"""Gauges of engines and processes, read at the moment in which somebody asks for metrics."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)

from serving.observing.figures import EngineFigures, Figures

_OF_ENGINE = ("model", "release", "role")
_OF_PROCESS = ("process", *_OF_ENGINE)
_ENDPOINT = ("endpoint", "", "", "")
_OWN, _SHARED = "engine", "shared engine"


@dataclass(frozen=True)
class _Process:
    labels: tuple[str, ...]
    cpu_seconds: float
    resident_bytes: int


class EngineCollector:
    """Turns what the endpoint says of itself into metrics."""

    def __init__(self, read_figures: Callable[[], Figures]) -> None:
        self._read_figures = read_figures
        self._looked: Figures | None = None

    def look(self) -> None:
        """Read them now, for whoever collects in a thread."""
        self._looked = self._read_figures()

    def collect(self) -> Iterator[Metric]:
        """As the registry asks."""
        figures = self._looked or self._read_figures()
        yield from _engine_metrics(figures.engines)
        yield from _process_metrics(figures.engines)
        yield _share_metric(figures)
        yield GaugeMetricFamily(
            "assay_ledger_generation",
            "Last entry of the ledger that was followed.",
            figures.generation,
        )
        yield GaugeMetricFamily(
            "assay_alarms", "Facts that a person should look at.", figures.alarms
        )


def _engine_metrics(engines: Iterable[EngineFigures]) -> Iterator[Metric]:
    ready: Counter[tuple[str, str, str]] = Counter()
    asleep: Counter[tuple[str, str, str]] = Counter()
    requests: Counter[tuple[str, str, str]] = Counter()
    ends: Counter[tuple[str, str, str]] = Counter()
    # Added up: two engines may have one version loaded, and a series must be there once.
    for engine in engines:
        labels = _labels_of(engine)
        ready[labels] += engine.is_ready
        asleep[labels] += engine.is_asleep
        requests[labels] += engine.requests
        ends[labels] += engine.ends
    yield _gauge("assay_engine_ready", "Engines that answer.", ready)
    yield _gauge(
        "assay_engine_asleep", "Engines that the next request loads again.", asleep
    )
    yield _gauge("assay_engine_requests", "Requests that it answers now.", requests)
    restarts = CounterMetricFamily(
        "assay_engine_restarts",
        "Ends of an engine's process that nobody asked for.",
        labels=_OF_ENGINE,
    )
    for labels, count in ends.items():
        restarts.add_metric(labels, count)
    yield restarts
    yield _computing_metric(engines)


def _computing_metric(engines: Iterable[EngineFigures]) -> Metric:
    """Engines that answer, by what computes their answers."""
    counts: Counter[tuple[str, ...]] = Counter()
    for engine in engines:
        if engine.engine:
            counts[(*_labels_of(engine), engine.engine)] += 1
    text = "Engines that answer, by what computes their answers."
    labels = (*_OF_ENGINE, "engine")
    family = GaugeMetricFamily("assay_engine_computes", text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _process_metrics(engines: Iterable[EngineFigures]) -> Iterator[Metric]:
    cpu = CounterMetricFamily(
        "assay_process_cpu_seconds", "Processor time.", labels=_OF_PROCESS
    )
    memory = GaugeMetricFamily(
        "assay_process_resident_bytes", "Memory in use.", labels=_OF_PROCESS
    )
    for process in _processes(engines):
        cpu.add_metric(process.labels, process.cpu_seconds)
        memory.add_metric(process.labels, process.resident_bytes)
    yield cpu
    yield memory


def _processes(engines: Iterable[EngineFigures]) -> Iterator[_Process]:
    seen: set[tuple[str, ...]] = set()
    seen_pids = {0}
    for labels, pid in _named_processes(engines):
        # Of two processes of one version the first one is shown, and one of several releases once.
        if pid in seen_pids or labels in seen:
            continue
        # It may have ended just now.
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            memory = process.memory_info()
            seen.add(labels)
            seen_pids.add(pid)
            yield _Process(labels, times.user + times.system, memory.rss)


def _named_processes(
    engines: Iterable[EngineFigures],
) -> Iterator[tuple[tuple[str, ...], int]]:
    """Labels and number of each; by name, so that the same release stands for those beside it."""
    yield _ENDPOINT, os.getpid()
    for engine in sorted(engines, key=_labels_of):
        kind = _SHARED if engine.shares_process else _OWN
        yield (kind, *_labels_of(engine)), engine.pid


def _share_metric(figures: Figures) -> Metric:
    shares: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for share in figures.shares:
        shares[share.model, share.release] += share.percent
    text = "Percent of a model's requests that a release gets."
    family = GaugeMetricFamily("assay_share_percent", text, labels=("model", "release"))
    for labels, percent in shares.items():
        family.add_metric(labels, percent)
    return family


def _gauge(name: str, text: str, counts: Counter[tuple[str, str, str]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=_OF_ENGINE)
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family


def _labels_of(engine: EngineFigures) -> tuple[str, str, str]:
    return (
        engine.model,
        engine.release,
        engine.role,
    )
