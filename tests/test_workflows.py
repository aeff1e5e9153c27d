"""The files that GitHub, pre-commit and editors read are valid; CI runs no code that can change."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from operations.init.project_files import Choice, workflows

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [ROOT / ".github/ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]
SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "custom.github-workflows-require-timeout": WORKFLOWS,
    "vendor.dependabot": [ROOT / ".github/dependabot.yml"],
    "vendor.github-issue-forms": FORMS,
    "vendor.github-issue-config": [ROOT / ".github/ISSUE_TEMPLATE/config.yml"],
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
}


def run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / program), *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )


def steps(workflow: Path) -> list[dict[str, str]]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_file_follows_the_schema_of_who_reads_it(schema: str) -> None:
    files = SCHEMAS[schema]
    assert files
    found = run("check-jsonschema", "--builtin-schema", schema, *files)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_auditor_finds_nothing_in_workflows_and_dependabot() -> None:
    found = run("zizmor", "--offline", "--no-progress", "--persona=pedantic", ".")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "No findings to report" in found.stdout + found.stderr


def test_the_auditor_would_find_an_action_that_is_not_pinned(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    loose = re.sub(r"actions/checkout@\w+ # \S+", "actions/checkout@main", text)
    (tmp_path / "loose.yml").write_text(loose, encoding="utf-8")
    found = run("zizmor", "--offline", "--no-progress", tmp_path / "loose.yml")
    assert found.returncode != 0
    assert "unpinned-uses" in found.stdout


def test_each_pinned_commit_says_its_version() -> None:
    text = "".join(workflow.read_text(encoding="utf-8") for workflow in WORKFLOWS)
    uses = re.findall(r"uses: (.+)", text)
    assert uses
    assert all(
        re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)
        for each in uses
    )


def test_one_action_has_one_commit_everywhere() -> None:
    text = "".join(workflow.read_text(encoding="utf-8") for workflow in WORKFLOWS)
    pins = set(re.findall(r"uses: ([\w/-]+)@(\w+)", text))
    assert len(pins) == len({name for name, _ in pins})


def test_workflows_run_the_commands_that_people_type() -> None:
    every = [step for workflow in WORKFLOWS for step in steps(workflow)]
    scripts = {step["run"] for step in every if "run" in step}
    # Where a person's own words come in, tests/test_workflow_runs.py runs the script.
    commands = {script for script in scripts if "\n" not in script}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (words,) = re.findall(r"^\.PHONY: (.+)$", makefile, flags=re.MULTILINE)
    assert commands
    assert commands <= {
        ".ci/run",
        "make .venv/ready",
        *(f"make {word}" for word in words.split()),
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_script_holds_an_expression(path: Path) -> None:
    scripts = [step["run"] for step in steps(path) if "run" in step]
    assert [script for script in scripts if "${{" in script] == []
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["permissions"] == {}
    assert "concurrency" in document


def test_pre_commit_reads_its_hooks_and_they_are_tools_of_the_environment() -> None:
    found = run("pre-commit", "validate-config", ".pre-commit-config.yaml")
    assert found.returncode == 0, found.stdout + found.stderr
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (repository,) = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local"
    programs = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert all((BIN / Path(program).name).is_file() for program in programs), programs


def test_each_form_asks_for_the_output_of_the_doctor() -> None:
    texts = [path.read_text(encoding="utf-8") for path in FORMS]
    texts.append(
        (ROOT / ".github/pull_request_template.md").read_text(encoding="utf-8")
    )
    assert all("assay doctor --json" in text for text in texts)


def test_the_container_has_the_python_of_the_project() -> None:
    container = json.loads(
        (ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
    )
    assert ":3.11" in container["image"]
    assert "make .venv/ready" in container["postCreateCommand"]


def test_the_citation_names_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]


def test_each_owned_path_exists() -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text(encoding="utf-8").splitlines()
    owned = [line.split()[0] for line in lines if line.startswith("/")]
    assert owned
    assert [path for path in owned if not (ROOT / path.strip("/")).exists()] == []


@pytest.fixture(params=["support", None])
def made_for_a_project(tmp_path: Path, request: pytest.FixtureRequest) -> list[Path]:
    """The workflows that `assay init` writes into a person's repository."""
    choice = Choice(name="theirs", folder="assay", model=request.param)
    paths = []
    for name, text in workflows(choice).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    "schema",
    ["vendor.github-workflows", "custom.github-workflows-require-timeout"],
)
def test_the_workflow_of_a_new_project_follows_the_same_schemas(
    made_for_a_project: list[Path], schema: str
) -> None:
    found = run("check-jsonschema", "--builtin-schema", schema, *made_for_a_project)
    assert found.returncode == 0, found.stdout + found.stderr


def test_the_auditor_finds_nothing_in_the_workflow_of_a_new_project(
    made_for_a_project: list[Path],
) -> None:
    options = ("--offline", "--no-progress", "--persona=pedantic")
    found = run("zizmor", *options, *made_for_a_project)
    assert found.returncode == 0, found.stdout + found.stderr
    every = [step for path in made_for_a_project for step in steps(path)]
    used = [step["uses"] for step in every if "uses" in step]
    ours = {
        step["uses"] for path in WORKFLOWS for step in steps(path) if "uses" in step
    }
    assert used
    assert set(used) <= ours, "the same pins as our own, which Dependabot renews"
