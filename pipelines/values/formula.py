"""The formula of an own metric: arithmetic over named sums, which evidence keeps as text.

    "2 * right / (said + wanted)" ─ parse_formula ─► a tree ─ pipelines.metrics.own_formula ─► score

It is no code: a gate counts a score from this text again, in every resample, without the file that
the text came from. Without numpy: evidence is read where nothing is counted.
"""

import ast
from collections.abc import Collection, Sequence
from math import inf

OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
SIGNS = (ast.UAdd, ast.USub)
FUNCTIONS = {
    "abs": (1, 1),
    "exp": (1, 1),
    "log": (1, 1),
    "max": (2, inf),
    "min": (2, inf),
    "sqrt": (1, 1),
}
"""Each function with the fewest and the most numbers that it takes."""
MOST_PARTS = 200
"""Each part is a step of numpy on every resample: it bounds how long a verdict takes."""
LARGEST = 1e15
"""Beyond it a whole number is none that a float holds."""


def parse_formula(text: str, names: Collection[str]) -> ast.expr:
    """The formula as a tree; `ValueError` says in one sentence why it is none."""
    try:
        tree = ast.parse(text, mode="eval")
    # Thousands of brackets are one of the others.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:60]!r} is no arithmetic") from error
    # Counted before the tree is looked at: what follows calls itself once a level.
    parts = list(ast.walk(tree.body))
    if len(parts) > MOST_PARTS:
        raise ValueError(f"it has {len(parts)} parts, over the {MOST_PARTS} allowed")
    _check(tree.body, names)
    return tree.body


def check_names(names: Sequence[str]) -> None:
    """`ValueError` where two sums have one name, or one has that of a function."""
    distinct = set(names)
    if len(distinct) != len(names):
        raise ValueError("two of its statistics have one name")
    for name in names:
        # A reader could not tell whether log(x) is of the sum or the logarithm.
        if name in FUNCTIONS:
            raise ValueError(f"a statistic cannot be named {name}, as a function is")


def _check(part: ast.expr, names: Collection[str]) -> None:
    if isinstance(part, ast.UnaryOp) and isinstance(part.op, SIGNS):
        _check(part.operand, names)
    elif isinstance(part, ast.BinOp) and isinstance(part.op, OPERATORS):
        _check(part.left, names)
        _check(part.right, names)
    elif isinstance(part, ast.Call):
        # The name of a function is no part by itself: `log + 1` is no number.
        _check_call(part)
        for argument in part.args:
            _check(argument, names)
    elif isinstance(part, ast.Name):
        _check_name(part.id, names)
    elif not _is_number(part):
        allowed = ", ".join(FUNCTIONS)
        raise ValueError(
            f"{ast.unparse(part)[:60]!r} is no part of a formula, which has numbers, names of "
            f"statistics, + - * / ** and {allowed}"
        )


def _check_name(name: str, names: Collection[str]) -> None:
    if name not in names:
        raise ValueError(f"{name} is none of its statistics, {', '.join(names)}")


def _check_call(call: ast.Call) -> None:
    written = ast.unparse(call.func)
    # It may be a whole expression, as in f(1)(2), and this becomes part of a sentence.
    name = written[:60]
    known = ", ".join(FUNCTIONS)
    if name not in FUNCTIONS or call.keywords:
        raise ValueError(f"{name} is none of the functions {known}")
    fewest, most = FUNCTIONS[name]
    given = len(call.args)
    if not fewest <= given <= most:
        raise ValueError(f"{name} is given {given} numbers")


def _is_number(part: ast.expr) -> bool:
    if not isinstance(part, ast.Constant):
        return False
    number = part.value
    # True is an int of Python.
    if isinstance(number, bool):
        return False
    if not isinstance(number, int | float):
        return False
    size = abs(number)
    return size <= LARGEST
