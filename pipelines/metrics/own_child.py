"""The process that runs the file of an own metric: `python -m pipelines.metrics.own_child`.

In: one JSON document on standard input. Out: one JSON document a line: what the metric says of
itself, then the two numbers of each row, then what it says of the references. A fault ends it.

A process of its own, so that a metric that hangs, prints or changes a module of Assay changes no
result but its own. Each call has a limit of time, kept by the kernel.
"""

import ast
import json
import math
import os
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TextIO, TypeVar

import numpy as np

from core.children import RUN_PID
from core.lifetime import end_with_the_run
from pipelines.metrics.metric import ScoredRow

SECONDS = 10
"""For one row, as for bash in `command_validity`."""
SECONDS_TO_LOAD = 60
"""For the imports of the file, which may be heavy."""
TOLERANCE = 1e-9
_MODULE = "own_metric"
_NEEDED = ("name", "unit", "higher_is_better", "scale", "worst", "compares_answers")
_NUMBERS = (int, float, np.integer, np.floating)
_T = TypeVar("_T")


class Fault(Exception):
    """What is wrong with the metric: the line of the file, where there is one, and the fact."""

    def __init__(self, fact: str, line: int | None = None) -> None:
        super().__init__(fact)
        self.line = line


class Source(NamedTuple):
    """The text that is run, under the path that its errors name."""

    name: str
    path: str
    text: str


def main() -> None:
    """Answer the document on standard input, and end without waiting for anything."""
    end_with_the_run()
    # Read by now: a metric sees nothing that is another at the next run.
    os.environ.pop(RUN_PID, None)
    request = json.load(sys.stdin)
    with _private_output() as answers:
        try:
            for answer in _answers(request):
                _write(answer, answers)
        except Fault as fault:
            document = {
                "fault": str(fault),
                "line": fault.line,
            }
            _write(document, answers)
    # Threads that the metric started are not waited for.
    os._exit(0)


def _write(document: dict[str, Any], answers: TextIO) -> None:
    line = json.dumps(document)
    answers.write(line)
    answers.write("\n")
    # At once: of a process that is ended the last line says where.
    answers.flush()


def _private_output() -> TextIO:
    """Standard output as it was; what the metric prints goes to a file that is looked at."""
    # Another number than 1, which whatever prints in C uses, too.
    private = os.dup(1)
    # A file has a size, by which printing is noticed.
    with tempfile.TemporaryFile() as sink:
        descriptor = sink.fileno()
        os.dup2(descriptor, 1)
    # A metric that asks for input gets none.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    return os.fdopen(private, "w", encoding="utf-8")


def _answers(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    source = Source(request["name"], request["path"], request["source"])
    metric = _within(SECONDS_TO_LOAD, source, lambda: _load(source))
    yield _describe(metric, source)
    documents = request["rows"]
    counted = []
    for document in documents:
        row = ScoredRow.model_validate(document)
        pair = _count(metric, row, source)
        counted.append(pair)
        yield {"counted": pair}
    # The corpus comes last: a fault of a row is the more exact one.
    # Fresh ones, whatever became of those above.
    rows = [ScoredRow.model_validate(document) for document in documents]
    _check_corpus(metric, counted, source)
    listed = request["references"]
    references = tuple(tuple(texts) for texts in listed)
    method = _ask(metric, "signature", rows, source)
    note = _ask(metric, "inapplicable", references, source)
    yield {
        "method": method,
        "inapplicable": note,
    }


def _within(seconds: int, source: Source, call: Callable[[], _T]) -> _T:
    """What a call into the file gives; `Fault` where it raises or prints.

    The kernel ends this process where it takes longer: code in C cannot be interrupted otherwise.
    """
    # Each time anew: an earlier call may have set a handler of its own.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    try:
        answer = call()
    except Fault:
        raise
    # SystemExit, too: nothing that a metric raises is a pass.
    except BaseException as error:
        raise Fault(_describe_error(error), _line_of(error, source.path)) from error
    finally:
        signal.alarm(0)
    sys.stdout.flush()
    if os.fstat(1).st_size > 0:
        raise Fault("it prints: take the print out")
    return answer


def _describe_error(error: BaseException) -> str:
    kind = type(error).__name__
    text = str(error)
    # Errors of libraries may be pages long, and this becomes part of a sentence.
    words = text.split()
    if not words:
        return f"it raised {kind}"
    line = " ".join(words)
    return f"it raised {kind} ({line[:120]})"


def _line_of(error: BaseException, path: str) -> int | None:
    """The innermost line of the file that the error went through."""
    line = None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


# The class.


def _load(source: Source) -> Any:
    module = types.ModuleType(_MODULE)
    # Where a dataclass or a pickle looks for the module of its class.
    sys.modules[_MODULE] = module
    code = compile(source.text, source.path, "exec")
    # The project's own file, which its person asked for: this process is there to run it.
    exec(code, module.__dict__)  # noqa: S102 - see above
    found = [
        each
        for name, each in vars(module).items()
        if _is_metric(each) and not name.startswith("_")
    ]
    names = [each.__name__ for each in dict.fromkeys(found)]
    if not names:
        raise Fault(
            "it has no metric: a class with row_statistics, "
            "whose name begins with no underscore"
        )
    if len(names) > 1:
        raise Fault(
            f"it has {len(names)} metrics, {' and '.join(names)}: leave one, "
            "or begin the names of the others with an underscore",
            _line_of_class(source, names[1]),
        )
    # Made here, within the limit of time: its constructor is the person's code as well.
    metric = found[0]()
    _check_members(metric, source)
    return metric


def _is_metric(each: object) -> bool:
    # Not what the file imports: `Metric` itself has the method, too.
    return (
        isinstance(each, type)
        and each.__module__ == _MODULE
        and hasattr(each, "row_statistics")
    )


def _check_members(metric: Any, source: Source) -> None:
    title = type(metric).__name__
    line = _line_of_class(source, title)
    for member in _NEEDED:
        if not hasattr(metric, member):
            raise Fault(f"{title} has no {member}", line)
    name = source.name
    if metric.name != name:
        given = _show(metric.name)
        raise Fault(
            f"{title} has the name {given}: it has to be that of the file, {name!r}",
            line,
        )
    # A stand-in judges where signatures differ, and the gate knows those of Assay alone.
    stand_in = getattr(metric, "stand_in", None)
    if stand_in is not None:
        raise Fault(f"{title} has a stand_in, which an own metric cannot have", line)


def _line_of_class(source: Source, name: str) -> int | None:
    tree = ast.parse(source.text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if node.name == name:
            return node.lineno
    return None


def _describe(metric: Any, source: Source) -> dict[str, Any]:
    """What the metric says of itself, of the types that it has to be of."""
    title = type(metric).__name__
    line = _line_of_class(source, title)
    # None is an answer here: the metric has no worst score.
    worst = metric.worst
    facts = {
        "unit": _typed(metric, "unit", str, line),
        "higher_is_better": _typed(metric, "higher_is_better", bool, line),
        "scale": _number(metric.scale, "scale", line),
        "worst": None if worst is None else _number(worst, "worst", line),
        "compares_answers": _typed(metric, "compares_answers", bool, line),
        "line": line,
    }
    scale = facts["scale"]
    # Margins are shares of it.
    if not scale > 0:
        raise Fault(f"its scale is {scale:g}: it has to be above 0", line)
    return facts


def _typed(metric: Any, member: str, kind: type, line: int | None) -> Any:
    fact = getattr(metric, member)
    # Its very type: a subclass may compare, print and turn into JSON in ways of its own.
    is_fitting = type(fact) is kind
    if is_fitting:
        return fact
    wanted = "a text"
    if kind is bool:
        wanted = "True or False"
    # A person sees what stands there.
    shown = _show(fact)
    raise Fault(f"its {member} is {shown}: it has to be {wanted}", line)


def _number(fact: Any, member: str, line: int | None) -> float:
    if _is_number(fact):
        return float(fact)
    shown = _show(fact)
    raise Fault(f"its {member} is {shown}: it has to be a number", line)


def _is_number(entry: Any) -> bool:
    """Whether it is a finite number of Python or numpy, and no yes or no."""
    # True is an int of Python.
    if isinstance(entry, bool):
        return False
    if not isinstance(entry, _NUMBERS):
        return False
    return math.isfinite(entry)


def _show(entry: Any) -> str:
    words = repr(entry).split()
    text = " ".join(words)
    if len(text) <= 60:
        return text
    beginning = text[:57]
    return f"{beginning}..."


# The rows.


def _count(metric: Any, row: ScoredRow, source: Source) -> tuple[float, float]:
    """The two numbers of a row: what counts, and how much the row weighs."""
    before = row.model_dump()
    answer = _within(SECONDS, source, lambda: metric.row_statistics(row))
    # Frozen values can be changed by those who try: the number would be of another row.
    after = row.model_dump()
    if after != before:
        raise Fault("row_statistics changes the row that it is given")
    # A text of two letters and a set of two numbers have a length of two as well.
    is_pair = isinstance(answer, tuple | list) and len(answer) == 2
    if not is_pair:
        raise Fault(
            f"row_statistics gives {_show(answer)}: it has to give two numbers, "
            "what counts and how much the row weighs"
        )
    shown = _show(answer)
    for entry in answer:
        if _is_number(entry):
            continue
        wrong = _show(entry)
        raise Fault(f"row_statistics gives {shown}, where {wrong} is no finite number")
    counted = float(answer[0])
    weight = float(answer[1])
    _check_bounds(metric, counted, weight)
    return counted, weight


def _check_bounds(metric: Any, counted: float, weight: float) -> None:
    if weight < 0:
        raise Fault(f"row_statistics gives the weight {weight:g}, which is below 0")
    # Without a worst score the scale only limits margins.
    if metric.worst is None:
        return
    low = high = metric.worst
    if metric.higher_is_better:
        high = low + metric.scale
    else:
        low = high - metric.scale
    slack = TOLERANCE * metric.scale
    least = low * weight - slack
    most = high * weight + slack
    # Asked as a pass.
    if least <= counted <= most:
        return
    score = f"{counted:g} of a weight of {weight:g}"
    raise Fault(
        f"row_statistics gives {score}, which is outside of its scale, "
        f"{low:g} to {high:g}"
    )


def _check_corpus(
    metric: Any, counted: list[tuple[float, float]], source: Source
) -> None:
    """A `corpus` of its own is allowed where it is the mean that Assay computes."""
    if not hasattr(metric, "corpus") or not counted:
        return
    pairs = np.array(counted)
    # The sums after each row: as many different corpora as there are rows.
    sums = np.cumsum(pairs, axis=0)
    weights = sums[:, 1]
    # Where nothing weighs there is no mean, whatever a formula would say.
    sums = sums[weights > 0]
    # A copy, so that a formula that works in place cannot agree with itself.
    given = sums.copy()
    theirs = _within(SECONDS, source, lambda: metric.corpus(given))
    ours = sums[:, 0] / sums[:, 1]
    # Compared first: numpy would stretch one number over all the sums.
    has_same_shape = np.shape(theirs) == ours.shape
    if not has_same_shape or not np.allclose(
        theirs, ours, rtol=TOLERANCE, atol=TOLERANCE
    ):
        raise Fault(
            "its corpus is not the first sum over the second, "
            "which is what Assay can compute again without the file: take corpus out"
        )


def _ask(metric: Any, member: str, about: Any, source: Source) -> str | None:
    """What an optional member says: a text, or nothing."""
    if not about:
        return None
    ask = getattr(metric, member, None)
    if ask is None:
        return None
    answer = _within(SECONDS, source, lambda: ask(about))
    if answer is None:
        return None
    if isinstance(answer, str):
        return answer
    shown = _show(answer)
    raise Fault(f"its {member} gives {shown}: it has to give a text")


if __name__ == "__main__":
    main()
