"""Assay from its wheel alone, in a folder of somebody who has no clone of it."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipelines.__main__ import STAGES
from tests.support.installed import Installed, build_wheel, make_environment
from tests.support.journey import (
    ANSWERS,
    SETTINGS,
    CommandResult,
    git,
    learnable_rows,
    lines_of,
    write_rows,
)
from tests.support.openai_client import openai_client
from tests.support.promoted import WAIVED
from tests.support.waivers import waive_as_others

pytestmark = pytest.mark.ci
NEWER = {
    "pyproject.toml": ('version = "0.1.0"', 'version = "0.1.1"'),
    "pipelines/metrics/exact_match.py": ('"""', '"""In other words. '),
}


@dataclass(frozen=True)
class Story:
    """What was typed in an empty folder, one command after the other."""

    assay: Installed
    folder: Path
    begun: CommandResult
    first: CommandResult
    promoted: CommandResult
    answer: str
    second: CommandResult
    status: CommandResult
    upgraded: CommandResult
    again: CommandResult
    champion: CommandResult
    champion_again: CommandResult


def configure(folder: Path, model: str) -> None:
    """Give a model the settings that the tiny base learns under."""
    path = folder / f"models/{model}.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    pairs = (setting.split("=", 1) for setting in SETTINGS)
    document["settings"] = {name: yaml.safe_load(text) for name, text in pairs}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def add_model(folder: Path, base: Path) -> None:
    """A second model, on more rows: a file is all that it takes."""
    rows = write_rows(folder / "more.jsonl", learnable_rows(300))
    document = yaml.safe_load((folder / "models/letters.yaml").read_text())
    document |= {"data": rows.name, "base_model": str(base)}
    (folder / "models/more.yaml").write_text(yaml.safe_dump(document))


def promote(assay: Installed, folder: Path) -> tuple[CommandResult, str]:
    waive_as_others(folder / ".assay", "letters", WAIVED)
    with assay.serving(folder) as url:
        done = assay.assay(folder, "promote", "1", "--reason", "it is better")
        answer = openai_client(url).chat.completions.create(
            model="letters", messages=[{"role": "user", "content": "12 a"}]
        )
    return done, str(answer.choices[0].message.content)


def repeated_in(result: CommandResult) -> list[str]:
    """The stages that were run, and not taken from the cache."""
    return [
        stage
        for stage in STAGES
        if any("cached" not in line for line in lines_of(result, stage))
    ]


@pytest.fixture(scope="module")
def story(
    prefect: None, tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    wheels = tmp_path_factory.mktemp("wheels")
    assay = make_environment(tmp_path_factory.mktemp("environment") / "venv")
    assay.install(build_wheel(wheels / "one", {}))
    folder = tmp_path_factory.mktemp("somebody") / "project"
    folder.mkdir()
    rows = write_rows(folder / "letters.jsonl", learnable_rows())
    # Their packages have the names of ours, and are never imported.
    for name in ("core", "cli", "pipelines", "flows"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('theirs')\n")
    begun = assay.assay(
        folder, "init", "--data", rows, "--base-model", tiny_base, "--model", "letters"
    )
    assert begun.code == 0, begun.out + begun.err
    configure(folder, "letters")
    first = assay.assay(folder, "run", "--json")
    promoted, answer = promote(assay, folder)
    add_model(folder, tiny_base)
    second = assay.assay(folder, "run", "more", "--json")
    assay.install(build_wheel(wheels / "two", NEWER))
    status = assay.assay(folder, "status")
    upgraded = assay.assay(folder, "upgrade", "--apply")
    again = assay.assay(folder, "run", "more", "--json")
    return Story(
        assay,
        folder,
        begun,
        first,
        promoted,
        answer,
        second,
        status,
        upgraded,
        again,
        assay.assay(folder, "run", "letters", "--json"),
        assay.assay(folder, "run", "letters", "--json"),
    )


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


def test_a_second_model_is_a_file_and_has_versions_of_its_own(story: Story) -> None:
    assert story.second.code == 0, story.second.out + story.second.err
    assert (story.second.last["model"], story.second.last["version"]) == ("more", "1")


def test_status_says_what_an_upgrade_would_repeat(story: Story) -> None:
    assert story.status.code == 0, story.status.err
    [line] = [line for line in story.status.out.splitlines() if "repeats" in line]
    assert "The next run repeats score, screen, and what follows" in line
    assert "(pipelines/metrics/exact_match.py)" in line


def test_after_a_changed_metric_only_scoring_and_what_follows_runs_again(
    story: Story,
) -> None:
    assert story.again.code == 0, story.again.out + story.again.err
    assert repeated_in(story.again) == ["score", "screen"]
    assert story.again.last["version"] == "2"


def test_what_serves_is_scored_again_where_the_code_that_scores_is_another(
    story: Story,
) -> None:
    again = story.champion
    assert again.code == 0, again.out + again.err
    assert repeated_in(again) == ["score", "screen"]
    assert (again.last["is_champion"], again.last["version"]) == (True, "1")
    assert again.last["is_scored_again"]
    assert "scored again, PASSED; nothing new was registered" in again.out
    once_more = story.champion_again
    assert (once_more.code, repeated_in(once_more)) == (0, [])
    assert once_more.last["mlflow_run"] == again.last["mlflow_run"]


def test_the_marker_names_the_assay_that_the_files_are_of(story: Story) -> None:
    assert story.upgraded.code == 0, story.upgraded.err
    assert 'version = "0.1.1"' in (story.folder / "assay.toml").read_text()


def test_nothing_of_the_home_is_a_part_of_git(story: Story) -> None:
    untracked = git(story.folder, "status", "--porcelain", "--untracked-files=all")
    assert ".assay/" not in untracked
    assert "models/letters.yaml" in untracked


def test_the_wheel_holds_what_a_project_begins_with(story: Story) -> None:
    listed = json.loads(
        (story.folder / "data/champion/champion.json").read_text(encoding="utf-8")
    )
    assert listed == {"champion": None}
