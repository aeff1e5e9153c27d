"""The process that runs the file of an own metric: `python -m pipelines.metrics.own_child`.

In: one JSON document on standard input. Out: one JSON document a line: what the metric says of
itself, then the numbers of each row, then what it says of the references. A fault ends it.

A process of its own, so that a metric that hangs, prints or changes a module of Assay changes no
result but its own. Each call has a limit of time, kept by the kernel.
"""

import json
import os
import signal
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO, TypeVar

from core.children import RUN_PID
from core.lifetime import end_with_the_run
from pipelines.metrics.metric import ScoredRow
from pipelines.metrics.own_fault import Fault, Source, is_number, line_of_class, show
from pipelines.metrics.own_numbers import check_corpora, count_row, formula_of
from pipelines.metrics.own_scorer import OfScorer, list_scorers
from pipelines.values.formula import check_names, parse_formula

SECONDS = 10
"""For one row, as for bash in `command_validity`."""
SECONDS_TO_LOAD = 60
"""For the imports of the file, which may be heavy."""
_MODULE = "own_metric"
_NEEDED = ("name", "unit", "higher_is_better", "scale", "worst", "compares_answers")
_T = TypeVar("_T")


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
    # Its members may be code as well, which must neither hang nor raise out of here.
    yield _within(SECONDS, source, partial(_describe, metric, source))
    documents = request["rows"]
    counted = []
    for document in documents:
        row = ScoredRow.model_validate(document)
        numbers = _within(SECONDS, source, partial(count_row, metric, row))
        counted.append(numbers)
        yield {"counted": numbers}
    # The corpus comes last: a fault of a row is the more exact one.
    # Fresh ones, whatever became of those above.
    rows = [ScoredRow.model_validate(document) for document in documents]
    _within(SECONDS, source, lambda: check_corpora(metric, counted))
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
    metric = _find_metric(vars(module), source)
    _check_members(metric, source)
    return metric


def _find_metric(variables: dict[str, Any], source: Source) -> Any:
    """The one class or scorer of the file."""
    classes = [
        each
        for name, each in variables.items()
        if _is_metric(each) and not name.startswith("_")
    ]
    classes = list(dict.fromkeys(classes))
    scorers = list_scorers(variables)
    names = [each.__name__ for each in classes]
    names += [scorer.name for scorer in scorers]
    if not names:
        raise Fault(
            "it has no metric: a class with row_statistics or a scorer of mlflow.genai, "
            "whose name begins with no underscore"
        )
    if len(names) > 1:
        raise Fault(
            f"it has {len(names)} metrics, {' and '.join(names)}: leave one, "
            "or begin the names of the others with an underscore",
            line_of_class(source, names[1]),
        )
    if scorers:
        return OfScorer(scorers[0], variables)
    # Made here, within the limit of time: its constructor is the person's code as well.
    return classes[0]()


def _is_metric(each: object) -> bool:
    # Not what the file imports: `Metric` itself has the method, too.
    return (
        isinstance(each, type)
        and each.__module__ == _MODULE
        and hasattr(each, "row_statistics")
    )


def _check_members(metric: Any, source: Source) -> None:
    title = type(metric).__name__
    if isinstance(metric, OfScorer):
        title = "the scorer"
    line = line_of_class(source, title)
    for member in _NEEDED:
        if not hasattr(metric, member):
            raise Fault(f"{title} has no {member}", line)
    name = source.name
    if metric.name != name:
        given = show(metric.name)
        raise Fault(
            f"{title} has the name {given}: it has to be that of the file, {name!r}",
            line,
        )
    # A stand-in judges where signatures differ, and the gate knows those of Assay alone.
    stand_in = getattr(metric, "stand_in", None)
    if stand_in is not None:
        raise Fault(f"{title} has a stand_in, which an own metric cannot have", line)


def _describe(metric: Any, source: Source) -> dict[str, Any]:
    """What the metric says of itself, of the types that it has to be of."""
    title = type(metric).__name__
    line = line_of_class(source, title)
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
    return {**facts, **_describe_formula(metric, line)}


def _describe_formula(metric: Any, line: int | None) -> dict[str, Any]:
    """The formula and what it is about; nothing where the metric is a mean."""
    if getattr(metric, "formula", None) is None:
        return {}
    formula = _typed(metric, "formula", str, line)
    _, names = formula_of(metric)
    if not all(isinstance(name, str) for name in names):
        raise Fault(f"its statistics are {show(names)}: they have to be names", line)
    try:
        check_names(names)
        parse_formula(formula, names)
    except ValueError as error:
        raise Fault(f"its formula is wrong: {error}", line) from error
    return {"formula": formula, "statistics": names}


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
    shown = show(fact)
    raise Fault(f"its {member} is {shown}: it has to be {wanted}", line)


def _number(fact: Any, member: str, line: int | None) -> float:
    if is_number(fact):
        return float(fact)
    shown = show(fact)
    raise Fault(f"its {member} is {shown}: it has to be a number", line)


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
    shown = show(answer)
    raise Fault(f"its {member} gives {shown}: it has to give a text")


if __name__ == "__main__":
    main()
