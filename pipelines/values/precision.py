"""In which precision a model answers: a part of what was scored, and so of what is served."""

from typing import Literal, get_args

Precision = Literal["float32", "bfloat16", "int8"]
"""`int8` is a form of weights: the linear layers' are rounded, and float32 computes with them."""

Arithmetic = Literal["float32", "bfloat16"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def arithmetic_of(precision: Precision) -> Arithmetic:
    """What numbers a model computes with."""
    return "float32" if precision == "int8" else precision


def find_precision(name: str) -> Precision | None:
    """The precision of that name; None where there is none."""
    for precision in PRECISIONS:
        if name == precision:
            return precision
    return None
