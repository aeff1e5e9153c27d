"""Rows that a model is asked, what it gives for each, and who else may compute that.

prompts ─┬─ the loaded model, in batches ─┬─► Kept: in memory, or on its way to the disk
         └─ RowEngine: one that serves ───┘
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from core.files import digest_of_text
from pipelines.values.engine_name import EngineName

Advance = Callable[[int], None]
TokenIds = Sequence[int]
_SEED_DIGITS = 15
"""Hexadecimal ones: torch takes seeds of 64 bits with a sign."""

_Result = TypeVar("_Result")
_Result_contra = TypeVar("_Result_contra", contravariant=True)


class Kept(Protocol[_Result_contra]):
    """Where results go, a batch at a time, by the number of their row."""

    def missing(self, rows: Sequence[int]) -> bool:
        """Whether one of these rows has no result yet."""
        ...

    def add(self, rows: Sequence[int], results: Sequence[_Result_contra]) -> None:
        """Keep a batch's results."""
        ...


class InMemory(Generic[_Result]):
    """Results that nobody needs after a kill."""

    def __init__(self) -> None:
        """Begin without any."""
        self._results: dict[int, _Result] = {}

    def missing(self, rows: Sequence[int]) -> bool:
        """Whether one of these rows has no result yet."""
        return any(row not in self._results for row in rows)

    def add(self, rows: Sequence[int], results: Sequence[_Result]) -> None:
        """Keep a batch's results."""
        pairs = zip(rows, results, strict=True)
        self._results.update(pairs)

    def in_order(self, count: int) -> tuple[_Result, ...]:
        """The results of the first `count` rows."""
        return tuple(self._results[row] for row in range(count))


@dataclass(frozen=True)
class Generated:
    """Tokens of one answer, and whether the model ended it by itself."""

    ids: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Sampling:
    """Tokens drawn by their probabilities; the same seed gives the same answers.

    In batches of transformers' the same batches are needed as well: rows share a batch's chance.
    """

    temperature: float
    seed: int

    def seed_of(self, number: int) -> int:
        """A seed of each batch, or of each row of an engine: it depends on none before it."""
        # By digest: seeds that follow one another are those of other samples.
        digest = digest_of_text(f"{self.seed} {number}")
        return int(digest[:_SEED_DIGITS], 16)


class RowEngine(Protocol):
    """An engine that serves, which computes rows in the loaded model's place."""

    @property
    def name(self) -> EngineName:
        """Which one."""
        ...

    @property
    def version(self) -> str:
        """Of its library: another one may round differently."""
        ...

    def answer_into(
        self,
        answers: Kept[Generated],
        prompts: Sequence[TokenIds],
        *,
        max_new_tokens: int,
        sampling: Sampling | None,
        advance: Advance,
    ) -> None:
        """Answer those prompts that `answers` lacks; `IncompleteGeneration` where one has none."""
        ...

    def measure_into(
        self,
        losses: Kept[float],
        rows: Sequence[tuple[TokenIds, TokenIds]],
        *,
        advance: Advance,
    ) -> None:
        """Measure those (prompt, completion) that `losses` lacks, in nats over the completion.

        `IncompleteEvidence` where one has no loss.
        """
        ...
