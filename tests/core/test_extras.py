"""Extras: what is missing is named with the extra that brings it."""

import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.extras import PARTS, describe_missing
from tests.support.commands import assay_in

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
EXTRAS = PROJECT["optional-dependencies"]
# Nobody imports them: another library does.
_IMPORTED_BY_OTHERS = {"pip", "pyopenssl"}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requirements}


@pytest.mark.parametrize("extra", ["train", "serve", "flows"])
def test_each_library_of_an_extra_is_named_with_it(extra: str) -> None:
    modules_of: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for each in distributions:
            modules_of.setdefault(canonicalize_name(each), set()).add(module)
    wanted = names(EXTRAS[extra]) - _IMPORTED_BY_OTHERS
    assert len(wanted) >= 4
    said = {}
    for library in wanted:
        sentences = [
            describe_missing(ModuleNotFoundError(name=f"{module}.inner"))
            for module in modules_of[library]
        ]
        said[library] = any(f"'assay[{extra}]'" in str(each) for each in sentences)
    assert [library for library, is_said in said.items() if not is_said] == [
        # Runs have it for Prefect's sake alone, and the endpoint needs it itself.
        *(["fastapi"] if extra == "flows" else [])
    ]


def test_all_is_every_part_and_the_lock_is_compiled_from_it() -> None:
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(PARTS)
    assert Requirement(EXTRAS["dev"][0]).extras >= {"all"}


def test_the_plug_in_brings_neither_training_nor_flows() -> None:
    brought = names(PROJECT["dependencies"]) | names(EXTRAS["mlflow-plugin"])
    assert not brought & {
        "torch",
        "dvc",
        "prefect",
        "transformers",
        "great-expectations",
    }


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError(), ModuleNotFoundError(name="x")]
)
def test_a_module_of_no_extra_is_a_defect(error: ModuleNotFoundError) -> None:
    assert describe_missing(error) is None


def test_a_command_that_lacks_a_library_says_in_one_line_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # None in the table of modules is how Python itself says that there is none.
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for module in list(sys.modules):
        if module.startswith("serving.listen"):
            monkeypatch.delitem(sys.modules, module)
    told = assay_in(tmp_path, "serve")
    assert told.exit_code == 1
    (line,) = told.stderr.splitlines()
    assert line.startswith("assay: This needs uvicorn, which is not installed here: ")
    assert "pip install 'assay[serve]'" in line


@pytest.mark.parametrize(("module", "is_in_all"), [("trl", True), ("openvino", False)])
def test_all_is_named_only_where_it_brings_what_is_missing(
    module: str, is_in_all: bool
) -> None:
    said = describe_missing(ModuleNotFoundError(name=module))
    assert said is not None
    assert ("assay[all]" in said) is is_in_all
