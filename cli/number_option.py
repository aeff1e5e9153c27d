"""Numbers as options."""

import math
from typing import Any

import click


class Number(click.FloatRange):
    """A number between two ends; `nan` is none, though it is under and over neither of them."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number; a usage error where it is none or outside."""
        number: float = super().convert(value, param, ctx)
        # Each comparison with a NaN is false, also those that click makes.
        if math.isnan(number):
            self.fail("nan is no number.", param, ctx)
        return number
