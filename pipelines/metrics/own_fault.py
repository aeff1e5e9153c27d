"""What is wrong with the file of an own metric, and how it is shown. Of `own_child.py` alone."""

import ast
import math
from typing import Any, NamedTuple

import numpy as np

_NUMBERS = (int, float, np.integer, np.floating)


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


def line_of_class(source: Source, name: str) -> int | None:
    """Where the text begins a class of that name."""
    tree = ast.parse(source.text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if node.name == name:
            return node.lineno
    return None


def is_number(entry: Any) -> bool:
    """Whether it is a finite number of Python or numpy, and no yes or no."""
    # True is an int of Python.
    if isinstance(entry, bool):
        return False
    if not isinstance(entry, _NUMBERS):
        return False
    return math.isfinite(entry)


def show(entry: Any) -> str:
    """What stands there, in one short line."""
    words = repr(entry).split()
    text = " ".join(words)
    if len(text) <= 60:
        return text
    beginning = text[:57]
    return f"{beginning}..."
