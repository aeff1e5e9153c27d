"""What the documents say is run here.

Commands parse, names exist, links lead somewhere, quoted errors are the real ones.
"""

import ast
import importlib
import re
import runpy
import shlex
import socket
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import pytest
import yaml
from fastapi.routing import APIRoute
from pydantic import BaseModel

from cli import main as assay
from core import download
from core.errors import AssayError, RunStopped
from core.settings import Settings
from flows.run.outcome import Outcome
from infra.docs_tables import completed
from pipelines.gates.policy import Guardrail, load_policy
from pipelines.metrics import Metric, ScoredRow
from pipelines.metrics.own import count_rows
from pipelines.metrics.own_file import read_metric_file
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
    preview_override,
)
from pipelines.values.verdict import EXIT_CODES
from serving.endpoint.routes import create_app
from serving.listen import open_socket
from tests.support.own_metrics import write_metric

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "pipelines", "registry", "serving", "flows", "operations", "cli")
MORE_DOCUMENTS = ("data/README.md", "data/raw/README.md", "tests/README.md")
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")
)
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / name for name in (*PAGES, *MORE_DOCUMENTS))]
)
WITH_COMMANDS = (
    "README.md",
    "CONTRIBUTING.md",
    "tests/README.md",
    *(
        page
        for page in PAGES
        if re.search(
            r"^```(sh|console)$",
            (ROOT / page).read_text(encoding="utf-8"),
            flags=re.MULTILINE,
        )
    ),
)
WITH_PYTHON = (
    "README.md",
    *(
        page
        for page in PAGES
        if "```python" in (ROOT / page).read_text(encoding="utf-8")
    ),
)
FOR_PEOPLE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "data/README.md",
    *(page for page in PAGES if "/decisions/" not in page),
)
MAP, ENVIRONMENT, EXIT_PAGE = (
    "docs/explanation/map.md",
    "docs/reference/environment.md",
    "docs/reference/exit-codes.md",
)
PARAMETERS, POLICY_PAGE = "docs/reference/parameters.md", "docs/reference/policy.md"
RUNBOOK = "docs/how-to/troubleshoot.md"
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
    """Every command in a shell block, a console block or inline code, as words.

    `…` stands for options that do not matter there.
    """
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
    """Parse as click would; an unknown command or option is its usage error.

    A command's bare name is only looked up.
    """
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
    stages = [word for word in words[1:] if not word.startswith("-")]
    # A test of tests/flows runs the one that a page shows.
    assert set(stages) <= {*STAGES, "prepare/dvc.yaml"}, words


def check_source(words: list[str]) -> None:
    assert words in ([".venv/bin/activate"], ["my-assay/bin/activate"])


def check_pip(words: list[str]) -> None:
    """What is installed is the pinned torch, or a wheel of this Assay."""
    assert words[0] == "install", words
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    named = {each for listed in extras.values() for each in listed}
    for word in words[1:]:
        wheel, _, bracketed = word.removesuffix("]").partition("[")
        is_ours = wheel == f"assay-{project['version']}-py3-none-any.whl"
        asked = set(bracketed.split(",")) - {""}
        assert word in {*project["dependencies"], *named} or is_ours, words
        assert not is_ours or asked <= set(extras), words


def check_python(words: list[str]) -> None:
    assert words == ["-m", "venv", "my-assay"]


CHECKS: dict[str, Callable[[list[str]], object]] = {
    "python3.11": check_python,
    "pip": check_pip,
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


def test_a_page_shows_every_command_and_every_word_of_make_that_a_user_needs() -> None:
    shown = {
        (words[0], words[1])
        for page in WITH_COMMANDS
        for words in commands(page)
        if len(words) > 1
    }
    assert {name for program, name in shown if program == "assay"} == set(
        assay.commands
    )
    assert {
        ("make", "demo"),
        ("make", "test"),
        ("make", "test-ci"),
        ("make", "check"),
    } <= shown
    assert list(commands("README.md"))[:2] == [["make", "demo"], ["make", "test"]]
    listed = set(
        re.findall(
            r"^\| `make (\w[\w-]*)` \|",
            text_of("docs/reference/cli.md"),
            flags=re.MULTILINE,
        )
    )
    (declared,) = re.findall(
        r"^\.PHONY: (.+)$", text_of("Makefile"), flags=re.MULTILINE
    )
    assert listed == set(declared.split())


def test_every_parameter_that_a_page_sets_exists(tmp_path: Path) -> None:
    runs = [
        check_assay(words[1:])
        for page in WITH_COMMANDS
        if page != RUNBOOK
        for words in commands(page)
        if words[:2] == ["assay", "run"]
    ]
    assignments = [
        parse_assignment(text)
        for run in runs
        for text in run.get("settings", ())
        if text != "NAME=VALUE"
    ]
    assert assignments
    for name, setting in assignments:
        preview_override(copied_params(tmp_path), {name: setting})


@pytest.mark.parametrize("document", WITH_PYTHON)
def test_the_python_in_a_document_parses_and_imports_what_exists(document: str) -> None:
    for code in blocks(document, "python"):
        for node in ast.walk(ast.parse(code)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module is not None
                and node.module.partition(".")[0] in PACKAGES
            ):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), (
                    node.module
                )


def test_the_metric_that_a_page_shows_is_one(tmp_path: Path) -> None:
    (code,) = blocks("docs/how-to/add-a-metric.md", "python")
    (tmp_path / "shown.py").write_text(code, encoding="utf-8")
    metric = runpy.run_path(str(tmp_path / "shown.py"))["AnswerLength"]()
    assert all(
        hasattr(metric, member)
        for member in (*Metric.__annotations__, "row_statistics", "corpus", "signature")
    )
    rows = [
        ScoredRow(prompt_id=text, prediction=text, references=("a",))
        for text in ("ab", "abcd")
    ]
    assert (
        metric.corpus(
            np.asarray([metric.row_statistics(row) for row in rows]).sum(axis=0)
        )
        == 3
    )


def test_the_own_metric_that_a_page_shows_counts_and_its_policies_load(
    tmp_path: Path,
) -> None:
    page = "docs/how-to/own-metric.md"
    code, *_ = blocks(page, "python")
    write_metric(tmp_path, code, "slot_error")
    rows = [
        ScoredRow(prompt_id="right", prediction="A cheap pub", references=texts)
        for texts in [("The cheap pub", "An Indian pub by the riverside")]
    ]
    wrong = rows[0].model_copy(update={"prompt_id": "wrong", "prediction": "A pub"})
    metric = count_rows(
        read_metric_file("slot_error", tmp_path),
        [*rows, wrong],
        [row.references for row in (*rows, wrong)],
    )
    assert metric.row_statistics(rows[0]) == (0, 2)
    assert metric.row_statistics(wrong) == (1, 2)
    named, guards, leads = (yaml.safe_load(block) for block in blocks(page, "yaml"))
    assert "slot_error" in named["score"]["metrics"]
    default = yaml.safe_load(text_of("registry/policies/default.yaml"))
    for edits in (guards, leads):
        policy = default | {"screen": default["screen"] | edits["screen"]}
        path = tmp_path / "policy.yaml"
        path.write_text(yaml.safe_dump(policy), encoding="utf-8")
        assert load_policy(path).gates.screen.own_metrics == {
            "slot_error": metric.scale
        }


@pytest.mark.ci
@pytest.mark.parametrize(
    ("place", "name", "expected"), [(1, "words_f1", (1, 2, 3)), (2, "headline", (1, 1))]
)
def test_the_formula_and_the_scorer_that_a_page_shows_count(
    tmp_path: Path, place: int, name: str, expected: tuple[float, ...]
) -> None:
    code = blocks("docs/how-to/own-metric.md", "python")[place]
    write_metric(tmp_path, code, name)
    row = ScoredRow(prompt_id="p", prediction="A pub", references=("A cheap bar",))
    file = read_metric_file(name, tmp_path)
    assert count_rows(file, [row], [row.references]).row_statistics(row) == expected


@pytest.mark.parametrize("document", PAGES)
def test_the_tables_that_a_page_asks_for_are_made_from_the_code(document: str) -> None:
    assert not re.search(r"<!-- (table|types): ", completed(text_of(document)))


def test_the_navigation_lists_every_page() -> None:
    listed = re.findall(
        r"^ +- (?:.+: )?([\w/-]+\.md)$", text_of("mkdocs.yml"), flags=re.MULTILINE
    )
    assert sorted(f"docs/{page}" for page in listed) == PAGES


def test_every_setting_is_on_the_page_of_the_environment() -> None:
    for name in Settings.model_fields:
        assert f"| `ASSAY_{name.upper()}` |" in text_of(ENVIRONMENT)


def test_the_page_of_exit_codes_names_each() -> None:
    listed = re.findall(r"^\| (\d+) \|", text_of(EXIT_PAGE), flags=re.MULTILINE)
    codes = {
        *EXIT_CODES.values(),
        AssayError.exit_code,
        RunStopped.exit_code,
        click.UsageError.exit_code,
    }
    assert {int(code) for code in listed} == codes


def test_the_page_of_exit_codes_names_every_key_of_the_json_line() -> None:
    outcome = Outcome(
        verdict="rejected",
        gate="admit",
        findings=(),
        scorecard=None,
        model="m",
        version=None,
        run_id="r",
    )
    assert all(
        f"| `{key}` |" in text_of(EXIT_PAGE) for key in outcome.machine_readable()
    )


def test_the_page_of_the_policy_names_each_field_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| (.*?) \| (.+) \|$", text_of(POLICY_PAGE), flags=re.MULTILINE
    )
    listed = {name: default.strip("`") for name, default, _ in rows}
    fields = {
        **field_defaults(load_policy(ROOT / "registry/policies/default.yaml").gates),
        "screen.guardrails": None,
    }
    assert set(fields) <= set(listed)
    assert set(Guardrail.model_fields) <= set(listed)
    for name, default in fields.items():
        assert default is None or yaml.safe_load(listed[name]) == default, name


def test_the_page_of_the_policy_names_each_guardrail_of_the_default_one() -> None:
    for each in load_policy(
        ROOT / "registry/policies/default.yaml"
    ).gates.screen.guardrails:
        assert (
            f"| `{each.metric}` | {each.margin} | {str(each.required).lower()} |"
            in text_of(POLICY_PAGE)
        )


def test_the_page_of_http_lists_the_routes_that_exist() -> None:
    listed = re.findall(
        r"^\| [A-Z, ]+ \| `(/[^`]+)` \|",
        text_of("docs/reference/http-api.md"),
        flags=re.MULTILINE,
    )
    app = create_app(cast("Any", None), cast("Any", None))
    assert set(listed) == {
        route.path for route in app.routes if isinstance(route, APIRoute)
    }


def test_the_page_of_backups_names_what_is_kept_for_how_long() -> None:
    listed = re.findall(
        r"^\| `(\w+)` \| (\d+) \|",
        text_of("docs/how-to/back-up.md"),
        flags=re.MULTILINE,
    )
    retention = yaml.safe_load(text_of("infra/retention.yaml"))
    assert {name: int(days) for name, days in listed} == retention


def test_the_page_of_nightly_runs_names_each_deployment() -> None:
    listed = re.findall(
        r"^\| ([\w-]+) \| [^|]+ \| [^|]+ \|$",
        text_of("docs/how-to/run-nightly.md"),
        flags=re.MULTILINE,
    )
    declared = [
        each["name"]
        for each in yaml.safe_load(text_of("infra/prefect.yaml"))["deployments"]
    ]
    assert set(declared) <= set(listed)


@pytest.mark.parametrize("document", FOR_PEOPLE)
def test_lines_of_prose_are_short(document: str) -> None:
    prose = re.sub(
        r"^```.*?^```", "", text_of(document), flags=re.DOTALL | re.MULTILINE
    )
    lines = [
        re.sub(r"\]\([^)]*\)", "]", line)
        for line in prose.splitlines()
        if not line.startswith(("|", "![", "#"))
    ]
    assert [line for line in lines if len(line) > 100] == []


def test_the_readme_is_read_in_four_minutes() -> None:
    readme = text_of("README.md")
    assert len(readme.splitlines()) <= 150
    assert len(readme.split()) <= 700


def test_params_yaml_holds_every_parameter_and_nothing_else() -> None:
    load_params(ROOT / "params.yaml")
    assert set(PARAMS) == set(Params.model_fields)


def test_the_page_of_parameters_names_each_with_its_default() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)` \| `(.*?)` \| (.+) \|$",
        text_of(PARAMETERS),
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
    pairs = re.findall(r"`([\w/]+\.py)`, `(\w+)`(?: and `(\w+)`)?", text_of(MAP))
    assert pairs
    for file, *functions in pairs:
        for function in filter(None, functions):
            assert re.search(
                rf"^ *def {function}\(", text_of(file), flags=re.MULTILINE
            ), f"{file}: {function}"


def test_every_stage_and_every_name_of_the_main_path_is_on_the_map() -> None:
    page = text_of(MAP)
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
    page = without_numbers(text_of(RUNBOOK))
    for raised in runbook_errors(tmp_path):
        assert without_numbers(raised.replace(str(tmp_path), "/home/you")) in page, (
            raised
        )
    for what, there, needed in (("row", 11, 50), ("group", 11, 20)):
        assert admit._check_count("", "train", what, there, needed).text in text_of(
            RUNBOOK
        )


def test_what_the_runbook_says_you_see_stands_in_the_code() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )
    # A sentence may be written as several literals, one after the other.
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    table = text_of(RUNBOOK).partition("| you see | do |")[2]
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


def field_defaults(model: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every field of a policy by its dotted name, with its value there.

    A guardrail's fields are listed by themselves.
    """
    found: dict[str, Any] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        found |= (
            field_defaults(value, f"{prefix}{name}.")
            if isinstance(value, BaseModel)
            else {f"{prefix}{name}": value}
        )
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in found.items()
    }


def map_files() -> set[str]:
    """Whatever looks like a file on the map; the outputs of stages have no folder there."""
    found = set(re.findall(r"`([\w./-]+\.(?:py|yaml|json|sh)|Makefile)`", text_of(MAP)))
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
    yield str(download._failure(CHEAT, "the package index is unreachable"))


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
