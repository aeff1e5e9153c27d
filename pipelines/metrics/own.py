"""A metric of the project's own, from a file that another process runs.

    read ─► MetricFile ─► two processes ─► the same numbers? ─► OwnMetric

An own metric is a mean: the sum of what counts over the sum of what the rows weigh. Or it is a
formula over sums that it names. Its scores, intervals and comparisons follow from the numbers and
the formula alone, so evidence is judged again without its file.
"""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from core.children import OWN_MODULE, owned_by_this_process
from core.errors import IncompleteEvidence, ParameterError, UnusableRow
from core.value import first_problem
from pipelines.metrics import own_child
from pipelines.metrics.metric import FloatArray, References, ScoredRow
from pipelines.metrics.own_file import MetricFile
from pipelines.metrics.own_formula import evaluate_formula
from pipelines.values.own_metric import OwnMetricRecord

Numbers = tuple[float, ...]
_KEPT = ("HOME", "LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TMPDIR")
"""The variables that a metric sees: no other can change a result, and no secret is among them."""
_SEEDS = ("1", "2")


class OwnMetric:
    """An own metric as evidence keeps it; with the numbers of the rows that its file counted."""

    def __init__(
        self,
        record: OwnMetricRecord,
        counted: Mapping[ScoredRow, Numbers] | None = None,
    ) -> None:
        self.record = record
        self.counted = counted or {}
        self.name = record.name
        self.unit = record.unit
        self.higher_is_better = record.higher_is_better
        self.scale = record.scale
        self.worst = record.worst
        self.compares_answers = record.compares_answers
        self.stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> Numbers:
        """What its file counted; `IncompleteEvidence` for a row that it did not."""
        if row not in self.counted:
            raise IncompleteEvidence(
                f"{self.record.path} has not counted prompt {row.prompt_id}. "
                "Run the score stage again."
            )
        return self.counted[row]

    def corpus(self, sums: FloatArray) -> FloatArray:
        """The formula's score, or the first sum over the second where it has none.

        NaN, which nothing passes with, where a formula has no number or no row weighs.
        """
        record = self.record
        if record.formula is not None:
            names = record.statistics
            return evaluate_formula(record.formula, names, sums)
        weights = sums[..., 1]
        # A resampled corpus may hold only rows that weigh nothing.
        is_there = weights > 0
        divisors = np.where(is_there, weights, np.nan)
        counted = sums[..., 0]
        means = counted / divisors
        return np.asarray(means)

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """The file, its digest, and what it says of its method."""
        return self.record.signature

    def inapplicable(self, references: References) -> str | None:
        """What its file said of the references that it counted."""
        return self.record.inapplicable


def count_rows(
    file: MetricFile, rows: Sequence[ScoredRow], references: References
) -> OwnMetric:
    """Have a file count rows, twice and in two orders, each time in a process of its own.

    `ParameterError` where the file is no metric, `UnusableRow` where a row cannot be counted, or
    is counted in another way the second time.
    """
    # Rows that two systems answered alike are counted once.
    distinct = list(dict.fromkeys(rows))
    orders = (distinct, distinct[::-1])
    with ThreadPoolExecutor(len(_SEEDS)) as pool:
        first, second = pool.map(
            lambda order, seed: _run(file, order, references, seed), orders, _SEEDS
        )
    for row, pair in first.counted.items():
        again = second.counted[row]
        # Asked as a pass: a NaN is not equal to itself.
        if again == pair:
            continue
        raise _fault_of_row(
            file,
            row,
            f"it gives {pair} and then {again}: a row has to give "
            "the same numbers always, without chance, time and order",
        )
    # It may look at the references, and at nothing else: not at a clock, not at the rows' order.
    if first.record != second.record:
        raise ParameterError(
            f"{file.path} says two things of itself: {first.record.signature} and "
            f"{second.record.signature}. Make them depend on nothing but the references."
        )
    return first


def describe_file(file: MetricFile, references: References = ()) -> OwnMetricRecord:
    """What a file says of itself and of references, without any row.

    `ParameterError` where it is no metric.
    """
    no_rows = ()
    seed = _SEEDS[0]
    described = _run(file, no_rows, references, seed)
    return described.record


def _run(
    file: MetricFile, rows: Sequence[ScoredRow], references: References, seed: str
) -> OwnMetric:
    # The text, and not the path: what was hashed is what is run, whatever the file says now.
    request = {
        "name": file.name,
        "path": file.path,
        "source": file.source,
        "rows": [row.model_dump(mode="json") for row in rows],
        "references": [list(texts) for texts in references],
    }
    code, answers = _talk(json.dumps(request), seed, len(rows))
    facts: dict[str, Any] = {}
    counted: list[Numbers] = []
    for answer in answers:
        if "fault" in answer:
            row = _row_at_work(rows, counted, facts)
            raise _fault(file, answer["fault"], answer["line"], row)
        if "counted" in answer:
            counted.append(tuple(answer["counted"]))
        else:
            facts |= answer
    # The last thing that it says: it has answered everything.
    if "method" not in facts:
        fact = _describe_end(code, has_loaded=bool(facts))
        raise _fault(file, fact, None, _row_at_work(rows, counted, facts))
    numbers = dict(zip(rows, counted, strict=True))
    return OwnMetric(_record(file, facts), numbers)


def _talk(request: str, seed: str, rows: int) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and whole lines of one process."""
    # The kernel's limits for each call end it much earlier.
    most = own_child.SECONDS_TO_LOAD + own_child.SECONDS * (rows + 5)
    with (
        tempfile.TemporaryDirectory(prefix="assay-metric-") as nowhere,
        # Not a pipe: a process that the metric left behind would hold it open.
        tempfile.TemporaryFile() as said,
    ):
        process = subprocess.Popen(
            # -P: nothing of the current folder is imported in place of a module of ours.
            [*OWN_MODULE, own_child.__name__],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.DEVNULL,
            env=_environment(seed),
            # A path in the file leads nowhere: what it reads would be no part of its identity.
            cwd=nowhere,
            # A group of its own, so that what it started is ended with it.
            start_new_session=True,
        )
        code = _wait(process, request.encode(), most)
        said.seek(0)
        lines = said.read().splitlines()
    return code, _whole_lines(lines)


def _environment(seed: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    # The same code that runs here, wherever the person installed another.
    child = Path(own_child.__file__)
    code = child.parents[2]
    own = {
        "PYTHONPATH": str(code),
        "PYTHONHASHSEED": seed,
        "PYTHONDONTWRITEBYTECODE": "1",
        # A scorer of MLflow's would tell its maker that it was called.
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
    }
    # A stage that is killed leaves no metric behind that goes on counting.
    return {**kept, **own, **owned_by_this_process()}


def _wait(process: "subprocess.Popen[bytes]", request: bytes, seconds: float) -> int:
    """The exit code, once the process and everything that it started have ended."""
    try:
        process.communicate(request, timeout=seconds)
    except subprocess.TimeoutExpired:
        return -signal.SIGALRM
    else:
        return process.returncode
    finally:
        # Also after Ctrl-C, which does not reach another session.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _whole_lines(lines: Sequence[bytes]) -> list[dict[str, Any]]:
    answers = []
    for line in lines:
        try:
            answers.append(json.loads(line))
        # A process that was ended may have begun a line.
        except ValueError:
            break
    return answers


def _row_at_work(
    rows: Sequence[ScoredRow], counted: Sequence[Numbers], facts: dict[str, Any]
) -> ScoredRow | None:
    """The row that was being counted, where one was."""
    if not facts:
        return None
    # It answers a row at a time, so the one at work is the first without an answer.
    next_one = len(counted)
    if next_one == len(rows):
        return None
    return rows[next_one]


def _describe_end(code: int, *, has_loaded: bool) -> str:
    if code == -signal.SIGALRM:
        limit = own_child.SECONDS_TO_LOAD
        if has_loaded:
            limit = own_child.SECONDS
        return f"it takes over {limit} s"
    if code < 0:
        return f"its process died of signal {-code}"
    return f"its process ended by itself, with exit code {code}"


def _record(file: MetricFile, facts: dict[str, Any]) -> OwnMetricRecord:
    line = facts.pop("line")
    document = {
        **facts,
        "name": file.name,
        "sha256": file.sha256,
    }
    try:
        return OwnMetricRecord.model_validate(document)
    except ValidationError as error:
        fact = f"what it says does not fit ({first_problem(error)})"
        raise _fault(file, fact, line) from error


def _fault(
    file: MetricFile, fact: str, line: int | None, row: ScoredRow | None = None
) -> ParameterError | UnusableRow:
    """The file with the line, the fact, and the row where it is about one."""
    place = file.path
    if line is not None:
        place = f"{place} line {line}"
    if row is not None:
        return _fault_of_row(
            file,
            row,
            fact,
            place,
        )
    sentence = f"{place}: {fact}."
    return ParameterError(f"{sentence} Correct the metric {file.name}.")


def _fault_of_row(
    file: MetricFile, row: ScoredRow, fact: str, place: str | None = None
) -> UnusableRow:
    if place is None:
        place = file.path
    # An answer may have many lines, and an error has one.
    words = row.prediction.split()
    line = " ".join(words)
    answer = line[:40]
    return UnusableRow(
        f"{place}: at prompt {row.prompt_id}, with the answer {answer!r}, "
        f"{fact}. Correct the metric {file.name}."
    )
