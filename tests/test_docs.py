"""What the documents say is run here: commands parse, names exist, links lead somewhere, quoted errors are the real ones."""

import ast
import re
import shlex
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import main as assay
from core import download
from core.errors import AssayError
from core.settings import Settings
from pipelines.gates.policy import load_policy
from pipelines.models.resources import Needs, check_room
from pipelines.rows.cheat import CHEAT
from pipelines.stages import admit
from pipelines.stages.base_model import base_model
from pipelines.values.params import (
    BaseModelParams,
    Params,
    load_params,
    override,
    parameter_names,
    parse_assignment,
)
from serving.listen import open_socket

ROOT = Path(__file__).parents[1]
PACKAGES = ("flows", "serving", "registry", "pipelines")
MORE_DOCUMENTS = ("data/README.md", "data/raw/README.md", "tests/README.md")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in MORE_DOCUMENTS),
    ]
)
WITH_COMMANDS = ("README.md", "CONTRIBUTING.md", "docs/runbook.md", "tests/README.md")
POLICIES = sorted((ROOT / "registry/policies").glob("*.yaml"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", text_of(name), flags=re.DOTALL | re.MULTILINE
    )


def commands(name: str) -> Iterator[list[str]]:
    """Every command in a shell block, a console block or inline code, as words; `…` stands for options that do not matter there."""
    lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
    lines += [
        line[2:]
        for block in blocks(name, "console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    prose = re.sub(r"^```.*?^```", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    lines += re.findall(r"`((?:assay|make|dvc) [^`\n]+)`", prose)
    yield from (
        words
        for line in lines
        if (words := [word for word in shlex.split(line, comments=True) if word != "…"])
    )


def check_assay(words: list[str]) -> dict[str, Any]:
    """Parse as click would; an unknown command or option is its usage error. A command's bare name is only looked up."""
    command = assay.commands[words[0]]
    if not words[1:]:
        return {}
    with command.make_context(words[0], words[1:]) as context:
        return context.params


def check_make(words: list[str]) -> None:
    targets = [word for word in words if "=" not in word]
    assert all(
        re.search(rf"^{re.escape(target)}:", text_of("Makefile"), flags=re.MULTILINE)
        for target in targets
    ), words


def check_dvc(words: list[str]) -> None:
    assert words[0] in {"repro", "dag"}
    assert all(word in STAGES for word in words[1:] if not word.startswith("-")), words


def check_source(words: list[str]) -> None:
    assert words == [".venv/bin/activate"]


CHECKS: dict[str, Callable[[list[str]], object]] = {
    "assay": check_assay,
    "make": check_make,
    "dvc": check_dvc,
    "source": check_source,
}


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_every_command_in_a_document_exists_with_its_options(document: str) -> None:
    found = list(commands(document))
    assert found
    for words in found:
        assert words[0] in CHECKS, f"{document}: nothing here can check {words}"
        CHECKS[words[0]](words[1:])


def test_the_readme_shows_every_command_and_every_word_of_make_that_a_user_needs() -> (
    None
):
    shown = {(words[0], words[1]) for words in commands("README.md") if len(words) > 1}
    assert {name for program, name in shown if program == "assay"} == set(
        assay.commands
    )
    assert {
        ("make", "demo"),
        ("make", "test"),
        ("make", "test-ci"),
        ("make", "check"),
    } <= shown


def test_every_parameter_that_the_readme_sets_exists(tmp_path: Path) -> None:
    runs = [
        check_assay(words[1:])
        for words in commands("README.md")
        if words[:2] == ["assay", "run"]
    ]
    assignments = dict(
        parse_assignment(text) for run in runs for text in run.get("settings", ())
    )
    assert assignments
    override(copied_params(tmp_path), assignments)


def test_the_python_in_the_readme_parses() -> None:
    (code,) = blocks("README.md", "python")
    ast.parse(code)


def test_every_setting_is_in_the_readme() -> None:
    for name in Settings.model_fields:
        assert f"`ASSAY_{name.upper()}`" in text_of("README.md")


def test_params_yaml_holds_every_parameter_and_nothing_else() -> None:
    load_params(ROOT / "params.yaml")
    assert set(PARAMS) == set(Params.model_fields)


def test_the_page_of_parameters_names_each_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$",
        text_of("docs/params.md"),
        flags=re.MULTILINE,
    )
    assert [name for name, _, _ in rows] == parameter_names(PARAMS)
    for name, default, _ in rows:
        setting = PARAMS
        for part in name.split("."):
            setting = setting[part]
        assert default == setting or yaml.safe_load(default) == setting, name


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: path.name)
def test_every_policy_parses(policy: Path) -> None:
    assert load_policy(policy).gates.name == policy.stem


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_every_relative_link_leads_to_a_file(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    for link in links:
        if not re.match(r"https?://", link):
            assert (document.parent / link.partition("#")[0]).exists(), link


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", text_of("docs/decisions/README.md"))
    assert listed == sorted(
        path.name for path in (ROOT / "docs/decisions").glob("[0-9]*.md")
    )


def test_every_file_and_function_on_the_map_exists() -> None:
    for name in map_files():
        assert (ROOT / name).is_file(), name
    pairs = re.findall(
        r"`([\w/]+\.py)`, `(\w+)`(?: and `(\w+)`)?", text_of("docs/map.md")
    )
    assert pairs
    for file, *functions in pairs:
        for function in filter(None, functions):
            assert re.search(
                rf"^ *def {function}\(", text_of(file), flags=re.MULTILINE
            ), f"{file}: {function}"


def test_every_stage_and_every_name_of_the_main_path_is_on_the_map() -> None:
    page = text_of("docs/map.md")
    assert all(f"| `{stage}` |" in page for stage in STAGES)
    assert set(imports_of("flows/train.py")) <= map_files()


def test_the_map_leads_to_every_file_in_two_hops() -> None:
    named = map_files()
    reached = named | {
        file for name in named if name.endswith(".py") for file in imports_of(name)
    }
    every = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    nowhere = {
        file
        for file in every - reached
        if not file.endswith("__init__.py") and "evaluate_modules" not in file
    }
    assert nowhere == set()


def test_the_errors_in_the_runbook_are_the_real_ones(tmp_path: Path) -> None:
    page = without_numbers(text_of("docs/runbook.md"))
    for raised in runbook_errors(tmp_path):
        assert without_numbers(raised.replace(str(tmp_path), "/home/you")) in page, (
            raised
        )
    for what, there, needed in (("row", 11, 50), ("group", 11, 20)):
        assert admit._enough("", "train", what, there, needed).text in text_of(
            "docs/runbook.md"
        )


def test_what_the_runbook_says_you_see_stands_in_the_code() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )
    table = text_of("docs/runbook.md").partition("| you see | do |")[2]
    seen = [
        cell
        for row in re.findall(r"^\| (.+?) \|", table, flags=re.MULTILINE)
        for cell in re.findall(r"`([^`]*[ ][^`]*)`", row)
    ]
    fragments = [
        part.strip()
        for quote in [*seen, "Training needs about … of memory"]
        for part in quote.split("…")
    ]
    quoted = [part for part in fragments if len(part) > len("assay gate")]
    assert len(quoted) >= len(seen)
    assert [part for part in quoted if part not in code] == []


def map_files() -> set[str]:
    """Whatever looks like a file on the map; the outputs of stages have no folder there."""
    found = set(
        re.findall(
            r"`([\w./-]+\.(?:py|yaml|json|sh)|Makefile)`", text_of("docs/map.md")
        )
    )
    return {name for name in found if "/" in name or (ROOT / name).is_file()}


def imports_of(name: str) -> list[str]:
    """Files of our own that a file imports."""
    modules = set()
    for node in ast.walk(ast.parse(text_of(name))):
        if isinstance(node, ast.ImportFrom) and node.module:
            modules |= {
                node.module,
                *(f"{node.module}.{alias.name}" for alias in node.names),
            }
    files = [
        f"{module.replace('.', '/')}.py"
        for module in modules
        if module.split(".")[0] in PACKAGES
    ]
    return [file for file in files if (ROOT / file).is_file()]


def runbook_errors(folder: Path) -> Iterator[str]:
    """Do what the runbook's five failures do, in their order, and give what is said."""
    params = copied_params(folder)
    yield said(lambda: override(params, {"lora.rank": 32}))
    yield said(lambda: override(params, {"lora.r": "zero"}))
    yield said(lambda: base_model(bare_base_model(folder / "models/my-base"), folder))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield said(lambda: open_socket("127.0.0.1", taken.getsockname()[1]))
    yield said(
        lambda: check_room(
            Needs(memory=0, disk=10**18), folder / "assay/.assay/scratch/04a09b58"
        )
    )
    yield str(download._failed(CHEAT, "the package index is out of reach"))


def said(act: Callable[[], object]) -> str:
    with pytest.raises(AssayError) as raised:
        act()
    return str(raised.value)


def bare_base_model(folder: Path) -> BaseModelParams:
    """A model folder that lacks nothing but a chat template."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return BaseModelParams(
        source="folder",
        id="my-base",
        path=str(folder),
        digest=None,
        chat_template=None,
        completion_mode=False,
    )


def copied_params(folder: Path) -> Path:
    copy = folder / "params.yaml"
    copy.write_text(text_of("params.yaml"), encoding="utf-8")
    return copy


def without_numbers(text: str) -> str:
    """Ports and gigabytes differ from machine to machine."""
    return re.sub(r"\d+(\.\d+)? GB|(?<=Port )\d+", "N", text)
