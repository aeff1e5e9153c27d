"""What MLflow shows of a review is read again from its own store before ratings count."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.rating.sample import Shown, draw_items
from pipelines.rating.seen import find_altered
from registry.mlflow.store import Store
from tests.support.ratings import questions

TITLE = "letters version 1, review 3"


@pytest.fixture
def shown(store: Store) -> tuple[Shown, ...]:
    drawn = draw_items(questions(), prompts=1, seed=0)
    store.reviews.publish(TITLE, drawn, ("ann",))
    return drawn


def change(folder: Path, statement: str, *values: str) -> None:
    """What whoever can write to MLflow's database does."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        changed = database.execute(statement, values)
        assert changed.rowcount == 1


def test_texts_are_as_sealed_until_somebody_changes_them(
    store: Store, shown: tuple[Shown, ...], tmp_path: Path
) -> None:
    items = [each.item for each in shown]
    ids = [item.id for item in items]
    seen = store.reviews.read_texts([*ids, f"tr-{'0' * 32}"])
    assert set(seen) == set(ids)
    assert find_altered(items, seen) == ()

    text, preview, damaged, emptied, *_ = shown
    change(
        tmp_path,
        "UPDATE spans SET content = replace(content, ?, 'Better') WHERE trace_id = ?",
        text.answer,
        text.item.id,
    )
    change(
        tmp_path,
        "UPDATE trace_info SET response_preview = 'Better' WHERE request_id = ?",
        preview.item.id,
    )
    change(
        tmp_path,
        "UPDATE spans SET content = '{' WHERE trace_id = ?",
        damaged.item.id,
    )
    change(tmp_path, "DELETE FROM spans WHERE trace_id = ?", emptied.item.id)
    changed = {text.item.id, preview.item.id, damaged.item.id, emptied.item.id}
    altered = find_altered(items, store.reviews.read_texts(ids))
    assert set(altered) == changed
