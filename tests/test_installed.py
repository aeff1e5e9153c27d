"""Assay from its wheel alone, in a folder of somebody who has no clone of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.installed import (
    Installed,
    begin_project,
    build_wheel,
    make_environment,
    promote,
)
from tests.support.journey import (
    ANSWERS,
    CommandResult,
    git,
    learnable_rows,
    write_rows,
)

pytestmark = pytest.mark.ci


@dataclass(frozen=True)
class Story:
    """What was typed in an empty folder, one command after the other."""

    assay: Installed
    folder: Path
    begun: CommandResult
    first: CommandResult
    promoted: CommandResult
    answer: str


@pytest.fixture(scope="module")
def story(
    prefect: None, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    wheels = tmp_path_factory.mktemp("wheels")
    assay = make_environment(tmp_path_factory.mktemp("environment") / "venv")
    assay.install(build_wheel(wheels / "one", {}))
    folder = tmp_path_factory.mktemp("somebody") / "project"
    begun = begin_project(assay, folder, tiny_base)
    first = assay.assay(folder, "run", "--json")
    promoted, answer = promote(assay, folder)
    return Story(assay, folder, begun, first, promoted, answer)


def test_at_a_terminal_rows_base_and_name_are_asked_for(
    story: Story, tiny_base: Path, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "letters.jsonl", learnable_rows(5))
    said = story.assay.typed(tmp_path, ["init"], [str(rows), str(tiny_base), "asked"])
    assert "5 records" in said or "5 rows" in said, said
    assert (tmp_path / "models/asked.yaml").is_file(), said
    # Outside of any project the command reads by the files that Assay brings.
    other = tmp_path.parent / f"{tmp_path.name}-other"
    other.mkdir()
    inspected = story.assay.assay(other, "data", "inspect", rows)
    assert inspected.code == 0, inspected.err


def test_an_empty_folder_becomes_a_project_and_says_what_is_next(story: Story) -> None:
    assert story.begun.code == 0, story.begun.err
    assert "is a git repository now" in story.begun.out
    assert "Next: `assay run letters --dry-run`" in story.begun.out
    assert "raise SystemExit" in (story.folder / "core/__init__.py").read_text()


def test_a_run_needs_no_clone_and_no_option(story: Story) -> None:
    assert story.first.code == 0, story.first.out + story.first.err
    assert story.first.last["verdict"] == "passed"
    assert (story.first.last["model"], story.first.last["version"]) == ("letters", "1")


def test_what_passed_is_promoted_and_answers(story: Story) -> None:
    assert story.promoted.code == 0, story.promoted.out + story.promoted.err
    assert ANSWERS["a"] in story.answer


def test_nothing_of_the_home_is_a_part_of_git(story: Story) -> None:
    untracked = git(story.folder, "status", "--porcelain", "--untracked-files=all")
    assert ".assay/" not in untracked
    assert "models/letters.yaml" in untracked


def test_the_wheel_holds_what_a_project_begins_with(story: Story) -> None:
    listed = json.loads(
        (story.folder / "data/champion/champion.json").read_text(encoding="utf-8")
    )
    assert listed == {"champion": None}
