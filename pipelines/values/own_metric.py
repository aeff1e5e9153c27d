"""A metric of the project's own: where its file lies, and what the evidence keeps of it.

Without numpy: the identity of a run asks for these files before any stage runs.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, model_validator

from core.errors import ParameterError
from core.value import Value
from pipelines import layout
from pipelines.values.formula import check_names, parse_formula

if TYPE_CHECKING:
    from pipelines.values.params import Params

BUILT_IN = (
    "chrf",
    "bleu",
    "exact_match",
    "command_validity",
    "perplexity_per_token",
    "bits_per_byte",
    "label_accuracy",
    "label_f1",
    "json_valid",
    "json_field_f1",
    "json_schema_valid",
    "tool_call",
    "squad_exact_match",
    "rouge_l",
    "semantic_similarity",
    "adapter_bytes",
    "tokens_per_answer",
    "unit_tests",
)
"""The names of `ALL_METRICS`, which are slow to import."""
NAME = r"[a-z][a-z0-9_]{0,59}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
# These texts stand in tables and on pages of others: one line, and no markup.
_Unit = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f|<>]{1,60}$")]
_Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f<>]{1,500}$")]
_OF_A_MEAN = 2


class OwnMetricRecord(Value):
    """What the file of an own metric said of itself when it counted.

    The evidence keeps it, so that a verdict is computed again without running the file.
    """

    name: Name
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] = Field(
        description="Of the file's bytes."
    )
    unit: _Unit
    higher_is_better: bool
    scale: Annotated[float, Field(gt=0, le=10**9)]
    worst: Annotated[float, Field(ge=-(10**9), le=10**9)] | None
    compares_answers: bool
    method: _Line | None = Field(description="What its own `signature` says.")
    inapplicable: _Line | None = Field(
        description="Why it says nothing about these references; None: it applies."
    )
    # Left out where there is none: the metric is a mean, as all older ones are.
    statistics: tuple[Name, ...] = Field(
        default=(),
        max_length=64,
        exclude_if=lambda names: not names,
        description="Names of the numbers that it gives of a row.",
    )
    formula: _Line | None = Field(
        default=None,
        exclude_if=lambda formula: formula is None,
        description="The score, from their sums.",
    )

    @model_validator(mode="after")
    def _check_formula(self) -> Self:
        """A gate counts by it: one that is none must not be read."""
        check_names(self.statistics)
        if self.formula is not None:
            parse_formula(self.formula, self.statistics)
        elif self.statistics:
            raise ValueError("it names statistics, and has no formula over them")
        return self

    @property
    def numbers(self) -> int:
        """How many numbers a row has: a mean needs what counts, and what the row weighs."""
        return len(self.statistics) or _OF_A_MEAN

    @property
    def path(self) -> str:
        """The file, from the project's root."""
        path = own_metric_path(self.name)
        return path.as_posix()

    @property
    def signature(self) -> str:
        """How it is counted. Another byte in the file is another way of counting."""
        parts = [
            f"file:{self.path}",
            f"sha256:{self.sha256}",
        ]
        if self.method is not None:
            parts.append(self.method)
        return "|".join(parts)


def own_metric_path(name: str) -> Path:
    """The file of an own metric, relative to the project.

    `ParameterError` for a name that is no plain word in lower case, so that no other file is run.
    """
    if not is_own_name(name):
        raise ParameterError(
            f"{name!r} is no name of a metric. "
            "Write a word of small letters, digits and _, such as slot_error."
        )
    return layout.OWN_METRICS / f"{name}.py"


def is_own_name(name: str) -> bool:
    """Whether a file may have this name: no path, and the same on every system of files."""
    found = re.fullmatch(NAME, name)
    return found is not None


def own_metric_files(params: "Params") -> list[Path]:
    """The files of the own metrics that parameters name, relative to the project.

    `ParameterError` for a name that cannot be one of a metric.
    """
    score = params.score
    names = own_metric_names(score.metrics)
    # A path for each, and never a pattern: no other file of the folder is run.
    paths = map(own_metric_path, names)
    return list(paths)


def own_metric_names(metrics: Iterable[str]) -> list[str]:
    """Those of the names that are not built in, each once."""
    # dict.fromkeys keeps the order.
    once = dict.fromkeys(metrics)
    return [name for name in once if name not in BUILT_IN]
