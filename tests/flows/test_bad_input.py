"""A person's mistake is named in one line, with exit code 1.

Nothing half-written stays.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.journey import (
    Checkout,
    invoke,
    learnable_rows,
    make_checkout,
    run_arguments,
    write_rows,
)


@pytest.fixture(scope="module")
def shared(
    prefect: None,
    cloned: Path,
    empty_mlflow: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("bad") / "assay", cloned, empty_mlflow)


@pytest.fixture
def untouched(shared: Checkout) -> Iterator[Checkout]:
    """The checkout, in which a test must leave no worktree, no temporary file and no version."""
    yield shared
    assert [
        path for path in (shared.home / "worktrees").glob("*") if path.is_dir()
    ] == []
    assert shared.git("worktree", "list").count("\n") == 1
    assert shared.git("status", "--porcelain") == ""
    assert [
        path
        for path in shared.home.rglob(".*")
        if path.is_file() and ".git" not in path.name
    ] == []
    assert shared.versions() == []


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "letters.jsonl", learnable_rows(60))


def refused(checkout: Checkout, *arguments: str | Path) -> str:
    """The one line that `assay` says when it refuses."""
    done = invoke(checkout, *arguments)
    assert done.code == 1, done.out + done.err
    line, *more = done.err.strip().splitlines()
    assert more == []
    assert line.startswith("assay: ")
    return line


def test_a_parameter_that_does_not_exist_is_answered_with_the_one_that_was_meant(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    said = refused(untouched, *run_arguments(data, tiny_base, "--set", "lora.rank=32"))
    assert "There is no parameter lora.rank. Did you mean lora.r?" in said


def test_a_parameter_out_of_range_is_named(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    assert "lora.r: " in refused(
        untouched, *run_arguments(data, tiny_base, "--set", "lora.r=0")
    )


def test_a_file_that_is_not_there_is_named(
    untouched: Checkout, tiny_base: Path, tmp_path: Path
) -> None:
    said = refused(untouched, *run_arguments(tmp_path / "none.jsonl", tiny_base))
    assert f"There is no file {tmp_path / 'none.jsonl'}" in said


def test_a_file_that_holds_no_rows_is_named_with_what_it_is(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    data.write_bytes(b"%PDF-1.7\n")
    said = refused(untouched, *run_arguments(data, tiny_base))
    assert f"{data} is a PDF document, and no file of rows." in said


def test_a_folder_that_is_no_dataset_is_named(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    said = refused(untouched, *run_arguments(data.parent, tiny_base))
    assert f"{data.parent} is a folder, and `datasets` did not save it." in said


def test_a_column_that_is_not_there_is_named_with_those_that_are(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    said = refused(
        untouched,
        *run_arguments(data, tiny_base, "--set", "data.prompt_column=question"),
    )
    assert "has no column question; it has completion, prompt" in said


def test_a_base_model_without_chat_template_is_told_both_ways_out(
    untouched: Checkout, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(tiny_base, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    said = refused(untouched, *run_arguments(data, bare))
    assert (
        f"{bare} has no chat template. Give one with --chat-template FILE, or train without "
        "with --completion-mode." in said
    )


def test_a_base_model_without_tokenizer_is_named(
    untouched: Checkout, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    bare = shutil.copytree(tiny_base, tmp_path / "bare")
    (bare / "tokenizer_config.json").unlink()
    assert f"{bare} has no tokenizer_config.json" in refused(
        untouched, *run_arguments(data, bare)
    )


def test_a_tokenizer_that_does_not_load_is_named_before_any_row_is_read(
    untouched: Checkout, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(tiny_base, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("{}")
    done = invoke(untouched, *run_arguments(data, broken))
    assert (done.code, "collect" in done.out) == (1, False)
    (line,) = done.err.strip().splitlines()
    assert "holds no tokenizer that loads" in line


def test_a_model_of_its_bases_own_name_is_refused(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    before = list((untouched.home / "worktrees").glob("*"))
    said = refused(
        untouched, *run_arguments(data, tiny_base, "--model", tiny_base.name)
    )
    assert (
        f"{tiny_base.name} is the name under which its base answers, so it could never be released"
        in said
    )
    assert list((untouched.home / "worktrees").glob("*")) == before, (
        "no workspace was opened for it"
    )


def test_a_policy_that_does_not_fit_passes_nothing(
    untouched: Checkout, data: Path, tiny_base: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("name: loose\n")
    said = refused(untouched, *run_arguments(data, tiny_base, "--policy", policy))
    assert "without a policy nothing passes" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(
    untouched: Checkout, data: Path, tiny_base: Path
) -> None:
    data.chmod(0)
    assert str(data) in refused(untouched, *run_arguments(data, tiny_base))
