"""An Assay that is upgraded in a project: a second model, a newer wheel, and what is repeated."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.__main__ import STAGES
from tests.support.installed import (
    add_model,
    begin_project,
    build_wheel,
    make_environment,
    promote,
)
from tests.support.journey import CommandResult, lines_of

pytestmark = pytest.mark.slow
NEWER = {
    "pyproject.toml": ('version = "0.1.0"', 'version = "0.1.1"'),
    "pipelines/metrics/exact_match.py": ('"""', '"""In other words. '),
}


@dataclass(frozen=True)
class Story:
    """What was typed in an empty folder, one command after the other."""

    folder: Path
    first: CommandResult
    second: CommandResult
    status: CommandResult
    upgraded: CommandResult
    again: CommandResult
    champion: CommandResult
    champion_again: CommandResult


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
    begin_project(assay, folder, tiny_base)
    first = assay.assay(folder, "run", "--json")
    promoted, _ = promote(assay, folder)
    assert promoted.code == 0, promoted.out + promoted.err
    add_model(folder, tiny_base)
    second = assay.assay(folder, "run", "more", "--json")
    assay.install(build_wheel(wheels / "two", NEWER))
    status = assay.assay(folder, "status")
    upgraded = assay.assay(folder, "upgrade", "--apply")
    again = assay.assay(folder, "run", "more", "--json")
    return Story(
        folder,
        first,
        second,
        status,
        upgraded,
        again,
        assay.assay(folder, "run", "letters", "--json"),
        assay.assay(folder, "run", "letters", "--json"),
    )


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
