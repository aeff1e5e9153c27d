"""What a person says of a file, instead of leaving it to a guess."""

from dataclasses import dataclass
from typing import Self

from pipelines.values.params import DELIMITERS, DataParams


@dataclass(frozen=True)
class ReadAs:
    """How to read a file; what is None is recognised by what the file holds."""

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    """One character."""
    sheet: str | None = None
    split: str | None = None

    @classmethod
    def of(cls, data: DataParams) -> Self:
        """Return what the parameters say."""
        delimiter = data.delimiter
        return cls(
            format=data.format,
            encoding=data.encoding,
            delimiter=DELIMITERS[delimiter] if delimiter else None,
            sheet=data.sheet,
            split=data.dataset_split,
        )
