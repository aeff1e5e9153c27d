"""Answers in a journal: their tokens, and whether the model ended them by itself."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.models.asked_rows import Generated
from pipelines.models.journal import Journal


class KeptAnswers:
    """What `generate_into` fills, and a killed evaluation finds again."""

    def __init__(self, path: Path, key: str) -> None:
        """Go on from the journal at `path` where it is of the same `key`."""
        self._journal = Journal(path, key)

    def __len__(self) -> int:
        """How many prompts are answered."""
        return len(self._journal)

    def missing(self, rows: Sequence[int]) -> bool:
        """Whether one of these prompts has no answer yet."""
        return self._journal.missing(rows)

    def add(self, rows: Sequence[int], results: Sequence[Generated]) -> None:
        """Keep a batch's answers."""
        # Tokens and not text: decoding is the reader's, as it was before.
        documents = [{"ids": row.ids, "ended": row.ended} for row in results]
        self._journal.add(rows, documents)

    def read(self, row: int) -> Generated:
        """The answer to a prompt; `KeyError` where it has none."""
        document = self._journal.read(row)
        ids = tuple(document["ids"])
        return Generated(ids, ended=document["ended"])
