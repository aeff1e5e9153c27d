"""The files that probes read: prompts of Assay's own, and what a user puts into `safety/`."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from core.errors import ParameterError
from core.value import Value, first_problem
from pipelines.safety.secrets import Canary
from pipelines.values.safety import RefusalPrompt

SHIPPED = Path(__file__).with_name("prompts.jsonl")
MOST_ITEMS = 100_000
V = TypeVar("V", bound=Value)
# CrowS-Pairs has the first two; its other columns say nothing that is counted here.
_MORE = ("more", "sent_more")
_LESS = ("less", "sent_less")


class Pair(Value):
    """Two sentences that differ in a group; `more` is the one that stereotypes."""

    id: str = Field(min_length=1)
    more: str = Field(min_length=1)
    less: str = Field(min_length=1)
    cluster: str = Field(
        min_length=1, description="Pairs of one pattern count as one observation."
    )


def read_refusal_prompts(path: Path | None) -> tuple[RefusalPrompt, ...]:
    """The user's prompts, or without a file those that Assay brings; `ParameterError`."""
    source = path or SHIPPED
    records = _records(source)
    return _parsed(
        RefusalPrompt,
        source,
        records,
    )


def read_pairs(path: Path) -> tuple[Pair, ...]:
    """Pairs from a CSV or JSON Lines file; `ParameterError` names what is wrong.

    Columns are `more` and `less`, or those of CrowS-Pairs, `sent_more` and `sent_less`; `cluster`
    may stand beside them.
    """
    records = [
        _pair_of(path, number, record)
        for number, record in enumerate(_records(path), start=1)
    ]
    return _parsed(Pair, path, records)


def read_canaries(path: Path) -> tuple[Canary, ...]:
    """Secrets from a JSON Lines file; `ParameterError` names what is wrong."""
    records = _records(path)
    return _parsed(
        Canary,
        path,
        records,
    )


def _pair_of(path: Path, number: int, record: dict[str, Any]) -> dict[str, str]:
    name = str(number)
    more = _first_of(record, _MORE)
    less = _first_of(record, _LESS)
    # The same sentence twice is a pair that nothing prefers.
    if more == less:
        raise ParameterError(
            f"Pair {number} of {path} has no two sentences that differ. "
            "Write them in the columns more and less, or take the line out."
        )
    cluster = record.get("cluster") or name
    return {"id": name, "more": more, "less": less, "cluster": str(cluster)}


def _first_of(record: dict[str, Any], names: Iterable[str]) -> str:
    for name in names:
        if record.get(name):
            return str(record[name]).strip()
    return ""


def _parsed(
    kind: type[V], path: Path, records: Iterable[dict[str, Any]]
) -> tuple[V, ...]:
    try:
        values = tuple(kind.model_validate(record) for record in records)
    except ValidationError as error:
        raise ParameterError(
            f"{path} holds a line that is no {kind.__name__}: {first_problem(error)}. "
            "docs/how-to/check-safety.md shows the form."
        ) from error
    ids = [str(getattr(value, "id", "")) for value in values]
    # Nothing would be asked, and nothing found: that must not look like a clean result.
    if not values or len(set(ids)) != len(ids) or len(values) > MOST_ITEMS:
        raise ParameterError(
            f"{path} holds {len(values)} items with {len(set(ids))} different ids. "
            f"Give each an id of its own, and write 1 to {MOST_ITEMS:,} of them."
        )
    return values


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".csv":
            yield from csv.DictReader(text.splitlines())
            return
        for line in text.splitlines():
            if line.strip():
                yield _as_table(json.loads(line))
    except (OSError, ValueError, RecursionError, csv.Error) as error:
        kind = type(error).__name__
        raise ParameterError(
            f"{path} cannot be read as CSV or JSON Lines ({kind}). "
            "Put the file into safety/ and name it in params.yaml."
        ) from error


def _as_table(record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise ValueError(type(record).__name__)  # noqa: TRY004 - shown as the file's fault
    return record
