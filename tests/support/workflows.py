"""A job of a GitHub workflow, run here: each script in bash, as GitHub's runner starts it.

Actions are left out: the repository is checked out already, and what is uploaded is a file.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.waiting import SECONDS_AT_MOST

SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""What GitHub starts where a workflow says `shell: bash`."""
_EXPRESSION = re.compile(r"\$\{\{ (.+?) \}\}")


@dataclass(frozen=True)
class Trigger:
    """What a person typed into the form, and the repository's variables."""

    inputs: Mapping[str, str]
    variables: Mapping[str, str]

    def resolve(self, text: str) -> str:
        """Put values in the place of expressions, as GitHub does for variables."""
        return _EXPRESSION.sub(lambda found: self._value(found[1]), text)

    def _value(self, expression: str) -> str:
        """The first part of `a || b` that is not empty."""
        for part in expression.split(" || "):
            context, _, name = part.partition(".")
            known = {"inputs": self.inputs, "vars": self.variables}[context]
            if known.get(name):
                return known[name]
        return ""


@dataclass(frozen=True)
class Runner:
    """A machine with a clone, and what it gives to every script."""

    clone: Path
    scratch: Path
    environment: Mapping[str, str]

    @property
    def summary(self) -> str:
        """What the page of the run shows."""
        path = self.scratch / "summary.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def run_job(self, workflow: str, job: str, trigger: Trigger) -> "JobResult":
        """Run the scripts of a job; after a failure only those that run always."""
        document = yaml.safe_load(workflow)
        defaults = document["defaults"]["run"]
        assert defaults["shell"] == "bash"
        folder = self.clone / defaults.get("working-directory", ".")
        results: list[subprocess.CompletedProcess[str]] = []
        for step in document["jobs"][job]["steps"]:
            has_failed = any(each.returncode for each in results)
            if "run" in step and (not has_failed or step.get("if") == "always()"):
                results.append(self._run_step(step, folder, trigger))
        return JobResult(tuple(results))

    def _run_step(
        self, step: Mapping[str, Any], folder: Path, trigger: Trigger
    ) -> "subprocess.CompletedProcess[str]":
        assert "${{" not in step["run"], "what a person typed is no part of a script"
        self.scratch.mkdir(exist_ok=True)
        script = self.scratch / "step.sh"
        script.write_text(step["run"], encoding="utf-8")
        typed = {
            name: trigger.resolve(text) for name, text in step.get("env", {}).items()
        }
        given = {
            "RUNNER_TEMP": str(self.scratch),
            "GITHUB_STEP_SUMMARY": str(self.scratch / "summary.md"),
            "GITHUB_ACTOR": "octocat",
            "GITHUB_RUN_ID": "42",
        }
        return subprocess.run(
            [*SHELL, str(script)],
            cwd=folder,
            env={**os.environ, **self.environment, **given, **typed},
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS_AT_MOST,
        )


@dataclass(frozen=True)
class JobResult:
    """The scripts that ran, in their order."""

    steps: "tuple[subprocess.CompletedProcess[str], ...]"

    @property
    def code(self) -> int:
        """The first exit code that is not 0: GitHub ends the job with it."""
        return next((each.returncode for each in self.steps if each.returncode), 0)

    @property
    def output(self) -> str:
        """Everything that the scripts said."""
        return "\n".join(each.stdout + each.stderr for each in self.steps)
