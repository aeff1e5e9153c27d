"""What makes two runs the same work: what the stages read, all of it, and nothing else."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from flows.run.work_key import work_key
from pipelines.stage_code import write_stage_codes
from pipelines.values.params import Params

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def tree(cloned: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose code is installed as it lies there."""
    copy = Path(shutil.copytree(cloned, tmp_path_factory.mktemp("tree") / "assay"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.stage_code.INSTALLED", copy)
        write_stage_codes(copy)
        yield copy


def appended(text: str) -> Callable[[str], str]:
    return lambda before: before + text


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(before: str) -> str:
        assert old in before
        return before.replace(old, new, 1)

    return change


def rewritten(text: str) -> str:
    """The same document in another order and another style, without its comments."""
    return yaml.safe_dump(yaml.safe_load(text), sort_keys=True, default_flow_style=True)


def key_after(tree: Path, name: str, change: Callable[[str], str]) -> str:
    path = tree / name
    before = path.read_text(encoding="utf-8") if path.exists() else None
    try:
        path.write_text(change(before or ""), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != before
        write_stage_codes(tree)
        return work_key(tree)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before, encoding="utf-8")
        write_stage_codes(tree)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "registry/release/judge.py",
            appended("# a comment in the gate of releases\n"),
        ),
        (
            "registry/release/recompute.py",
            appended("def never_called() -> None: ...\n"),
        ),
        ("pipelines/not_imported.py", appended("x = 1\n")),
        ("registry/mlflow/store.py", appended("# a comment\n")),
        ("registry/policies/other-model.yaml", appended("admit: {}\n")),
        ("README.md", appended("more\n")),
        ("requirements.lock", appended("# what is installed counts\n")),
        ("dvc.yaml", appended("# a comment\n")),
        ("dvc.yaml", rewritten),
        ("params.yaml", appended("# a comment\n")),
        ("params.yaml", rewritten),
        ("params.yaml", replaced("epochs: 1\n", "epochs: 1.0\n")),
        ("registry/policies/default.yaml", appended("# a comment\n")),
        ("registry/policies/default.yaml", rewritten),
    ],
)
def test_what_no_stage_reads_changes_nothing(
    tree: Path, name: str, change: Callable[[str], str]
) -> None:
    assert key_after(tree, name, change) == work_key(tree)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (
            "pipelines/stages/fine_tune.py",
            appended("# code of a stage counts by its bytes, as it does for DVC\n"),
        ),
        ("pipelines/metrics/bleu.py", appended("# imported by way of a folder\n")),
        (
            "pipelines/metrics/evaluate_modules/corpus_bleu/corpus_bleu.py",
            appended("# loaded by its path\n"),
        ),
        ("pipelines/statistics/bootstrap.py", appended("x = 1\n")),
        ("data/raw/rows.jsonl", appended("{}\n")),
        ("data/expectations/rows.json", appended("\n")),
        ("data/champion/champion.json", replaced("null", "{}")),
        (
            "registry/policies/default.yaml",
            replaced("min_clusters: 2", "min_clusters: 3"),
        ),
        ("params.yaml", replaced("r: 16", "r: 8")),
        ("dvc.yaml", replaced("stage score", "stage score --quick")),
    ],
)
def test_what_a_stage_reads_makes_other_work(
    tree: Path, name: str, change: Callable[[str], str]
) -> None:
    assert key_after(tree, name, change) != work_key(tree)


def test_what_is_left_out_by_name_does_not_count(tree: Path) -> None:
    other = tree / "data/champion/other.json"
    before = work_key(tree), work_key(tree, besides={"data/champion"})
    other.write_text("{}")
    after = work_key(tree), work_key(tree, besides={"data/champion"})
    other.unlink()
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)


def test_every_section_of_the_parameters_is_read_by_a_stage_that_says_so() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))[
        "stages"
    ].values()
    assert set(Params.model_fields) <= {
        name for entry in stages for name in entry.get("params", [])
    }
