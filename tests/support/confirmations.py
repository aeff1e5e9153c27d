"""Entries of the sealed reserve: a block that is opened, and what it showed."""

from typing import Any

from pipelines.statistics.spending import level_of
from registry.ledger.entries import BlockClosed, BlockOpened
from tests.support.ledgers import MODEL, WHY, adapter


def opened(number: int, level: float | None = None, **changes: Any) -> BlockOpened:
    facts = {
        "model": MODEL,
        "number": number,
        "level": level_of(number) if level is None else level,
        "rows_sha256": adapter(f"rows {number}"),
        "groups_sha256": WHY,
        "adapter_sha256": adapter(f"{number}"),
        "against": "champion",
        "against_sha256": adapter("champion"),
        "by": "lena",
        "account": "5 (lena)",
        "logical_run": WHY,
    }
    return BlockOpened.model_validate({**facts, **changes})


def closed(at: int, *, is_confirmed: bool = False, model: str = MODEL) -> BlockClosed:
    return BlockClosed(
        model=model, opened=at, is_confirmed=is_confirmed, evidence_sha256=WHY
    )
