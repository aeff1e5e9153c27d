"""Have lm-evaluation-harness ask a model, by a Python that has it."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from core.errors import ParameterError
from core.files import digest_of_files, folder_digests
from core.settings import Settings
from core.value import Value

_VERSION = "from importlib.metadata import version; print(version('lm_eval'))"
# Of the rows that few-shot examples are drawn from, and of everything else that is drawn.
_SEED = "0"
_OURS = ("ASSAY_", "MLFLOW_", "PREFECT_")
"""Variables that a task's code has no use for; logins are among them."""
_COMPILED = "__pycache__/"
_LONGEST_REASON = 300


class HarnessTasks(Value):
    """Which tasks are asked, and how."""

    names: tuple[str, ...] = Field(min_length=1)
    folder: Path | None = Field(
        default=None, description="Tasks of one's own, beside those that it brings."
    )
    limit: int | None = Field(default=None, description="So many documents a task.")
    batch_size: int = 8
    chat_template: bool = Field(
        default=False, description="Ask through the base's chat template."
    )

    @property
    def folder_sha256(self) -> str | None:
        """Digest of every file of one's own; None without any."""
        if self.folder is None:
            return None
        digests = folder_digests(self.folder)
        # What Python writes beside a task's code is made of it.
        own = {name: sha for name, sha in digests.items() if _COMPILED not in name}
        return digest_of_files(own)


@dataclass(frozen=True)
class Harness:
    """A Python with lm-evaluation-harness, the version that it has, and its variables."""

    python: Path
    version: str
    environment: Mapping[str, str]


@dataclass(frozen=True)
class AskedModel:
    """Weights that are asked, and where the program's files and its output go."""

    base: Path
    adapter: Path | None
    into: Path
    log: Path


def find_harness(person: Mapping[str, str]) -> Harness:
    """The one of `ASSAY_HARNESS_PYTHON`, else of this environment.

    `person`: the variables as they were before Assay set any for libraries of its own.
    `ParameterError` where it is not installed there.
    """
    python = Settings().harness_python or Path(sys.executable)
    # Not resolved: the link in an environment is what tells Python which one it is.
    python = python.absolute()
    environment = _environment(person)
    try:
        asked = subprocess.run(
            [python, "-c", _VERSION],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    except OSError as error:
        raise _not_there(python) from error
    if asked.returncode != 0:
        raise _not_there(python)
    return Harness(python, asked.stdout.strip(), environment)


def ask_harness(harness: Harness, model: AskedModel, tasks: HarnessTasks) -> None:
    """Write the program's own results and samples below `model.into`.

    In single precision, as Assay scores. `ParameterError` where it cannot ask the tasks.
    """
    model.into.mkdir(parents=True)
    model.log.parent.mkdir(parents=True, exist_ok=True)
    command = _command(harness, model, tasks)
    # A task's file names its data from where it stands itself.
    folder = tasks.folder or model.into
    with model.log.open("wb") as log:
        # No limit of time: its output says how far it is, and Ctrl-C ends it.
        ended = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(harness.environment),
            cwd=folder,
        )
    if ended.returncode != 0:
        raise ParameterError(
            f"lm-evaluation-harness could not ask {', '.join(tasks.names)}: "
            f"{last_line(model.log)}. {model.log} has all that it said."
        )


def _environment(person: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: setting for name, setting in person.items() if not name.startswith(_OURS)
    }
    # Nothing of the current folder is imported in place of a module of its own.
    return {**kept, "PYTHONSAFEPATH": "1"}


def _command(harness: Harness, model: AskedModel, tasks: HarnessTasks) -> list[str]:
    arguments = [f"pretrained={_link(model, model.base, 'base')}", "dtype=float32"]
    if model.adapter is not None:
        arguments.append(f"peft={_link(model, model.adapter, 'adapter')}")
    command = [str(harness.python), "-m", "lm_eval", "--model", "hf"]
    command += ["--model_args", ",".join(arguments), "--tasks", ",".join(tasks.names)]
    command += ["--batch_size", str(tasks.batch_size), "--seed", _SEED]
    command += ["--log_samples", "--output_path", str(model.into)]
    if tasks.folder is not None:
        command += ["--include_path", str(tasks.folder.absolute())]
    if tasks.limit is not None:
        command += ["--limit", str(tasks.limit)]
    if tasks.chat_template:
        command.append("--apply_chat_template")
    return command


def _link(model: AskedModel, folder: Path, name: str) -> Path:
    """A short name for a folder.

    The program cuts its arguments at commas, and makes a file's name of the whole path.
    """
    link = model.into / name
    link.symlink_to(folder.absolute(), target_is_directory=True)
    return link


def _not_there(python: Path) -> ParameterError:
    return ParameterError(
        f"lm-evaluation-harness is not installed for {python}. Install lm_eval there, or name "
        "another Python that has it with ASSAY_HARNESS_PYTHON."
    )


def last_line(log: Path) -> str:
    """What an error says, of a program that ended with one."""
    text = log.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return "it gave no reason"
    return lines[-1].rstrip(".")[:_LONGEST_REASON]
