"""Which held-out groups are sealed no longer, as a run writes it for `split`."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from core.errors import DamagedFile
from flows.run import seen_groups
from pipelines import layout
from pipelines.values.dataset import Row, write_rows
from pipelines.values.reserve import SCORED_GROUPS, SeenGroups, key_of
from registry.release.confirmed import FOLDER, ROWS


def row(group: str) -> Row:
    return Row.model_validate(
        {
            "id": group,
            "number": 1,
            "messages": [{"role": "user", "content": group}],
            "completion": "yes",
            "group": group,
        }
    )


def test_what_any_candidate_was_scored_on_is_sealed_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = cast("Any", SimpleNamespace(root=tmp_path / "root", home=tmp_path))
    # Two candidates of one model, which were rejected, and one of another model.
    for model, group in (("letters", "one"), ("letters", "two"), ("other", "three")):
        write_rows(workspace.root / layout.SPLIT / "held_out.jsonl", [row(group)])
        seen_groups.note_scored_groups(workspace, model)
    monkeypatch.setattr(seen_groups, "is_sealed", lambda _: True)
    seen_groups.place_seen_groups(workspace, None, "letters")
    groups = SeenGroups.read(workspace.root / layout.SEEN_GROUPS).groups
    assert set(groups) == {key_of("one"), key_of("two")}


def test_a_damaged_record_of_what_was_scored_is_not_taken_for_an_empty_one(
    tmp_path: Path,
) -> None:
    workspace = cast("Any", SimpleNamespace(root=tmp_path / "root", home=tmp_path))
    write_rows(workspace.root / layout.SPLIT / "held_out.jsonl", [row("one")])
    seen_groups.note_scored_groups(workspace, "letters")
    (tmp_path / SCORED_GROUPS / "letters.json").write_text('{"groups": ["one')
    with pytest.raises(DamagedFile, match=r"letters\.json"):
        seen_groups.note_scored_groups(workspace, "letters")


def test_what_a_received_champion_was_confirmed_on_is_sealed_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, root = tmp_path / "package", tmp_path / "root"
    (package / FOLDER).mkdir(parents=True)
    write_rows(package / "held_out.jsonl", [row("scored")])
    write_rows(package / FOLDER / ROWS, [row("confirmed")])
    monkeypatch.setattr(seen_groups, "is_sealed", lambda _: True)
    monkeypatch.setattr(seen_groups, "find_comparators", lambda *_: ("champion",))
    monkeypatch.setattr(seen_groups, "fetch_package_of", lambda *_: package)
    # No ledger of this home: another installation's opened the block.
    workspace = cast("Any", SimpleNamespace(root=root, home=tmp_path / "home"))
    seen_groups.place_seen_groups(workspace, cast("Any", object()), "letters")
    groups = SeenGroups.read(root / layout.SEEN_GROUPS).groups
    assert set(groups) == {key_of("scored"), key_of("confirmed")}
