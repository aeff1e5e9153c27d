"""What a formula of an own metric gives, for as many corpora at once as there are sums."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from pipelines.metrics.metric import FloatArray
from pipelines.values.formula import parse_formula

_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "max": np.maximum,
    "min": np.minimum,
    "sqrt": np.sqrt,
}


def evaluate_formula(text: str, names: Sequence[str], sums: FloatArray) -> FloatArray:
    """The score of each corpus, shape (...), from sums of shape (..., names).

    NaN or infinite where a formula has no number, such as 0 / 0; `ValueError` for no formula.
    """
    # Each time anew: evidence may come from anywhere, and only a parsed formula is safe to follow.
    tree = parse_formula(text, names)
    columns = {}
    for place, name in enumerate(names):
        columns[name] = sums[..., place]
    # A corpus without a number is refused by whoever asked, with the metric's name.
    with np.errstate(all="ignore"):
        score = _evaluate(tree, columns)
    # A formula without any name would be one number for all corpora.
    corpora = sums.shape[:-1]
    scores = np.broadcast_to(score, corpora)
    return scores.astype(np.float64)


def _evaluate(part: ast.expr, columns: Mapping[str, FloatArray]) -> Any:
    if isinstance(part, ast.Name):
        return columns[part.id]
    if isinstance(part, ast.UnaryOp):
        number = _evaluate(part.operand, columns)
        is_minus = isinstance(part.op, ast.USub)
        return -number if is_minus else number
    if isinstance(part, ast.BinOp):
        left = _evaluate(part.left, columns)
        right = _evaluate(part.right, columns)
        combine = _OPERATORS[type(part.op)]
        return combine(left, right)
    if isinstance(part, ast.Call):
        return _call(part, columns)
    # A float also where a person wrote a whole number: 2 ** -1 has none among those.
    number = ast.literal_eval(part)
    return np.float64(number)


def _call(call: ast.Call, columns: Mapping[str, FloatArray]) -> Any:
    numbers = []
    for argument in call.args:
        number = _evaluate(argument, columns)
        numbers.append(number)
    # `parse_formula` lets no other function through, and of one number only those that take one.
    name = ast.unparse(call.func)
    function = _FUNCTIONS[name]
    first, *others = numbers
    is_alone = not others
    if is_alone:
        return function(first)
    # numpy takes two at a time; max and min of more are the same in any order.
    return reduce(function, numbers)
