"""The code of each stage, as it is installed.

The digest of what a stage runs is a file of the workspace, on which the stage depends in dvc.yaml.
So DVC and a run's identity follow from the code that is installed, wherever it lies, and an upgrade
repeats those stages alone whose code is another.
"""

import json
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from core.errors import WorkspaceError
from core.files import sha256_of
from core.value import Value
from pipelines import layout
from pipelines.engines import OPENVINO, TRANSFORMERS, VLLM, NotTaken
from pipelines.engines.installed import installed_version
from pipelines.values.engine_name import EngineName
from pipelines.values.own_metric import own_metric_files
from pipelines.values.params import Params, load_params

LISTED = Path(__file__).with_name("stage_modules.json")
"""Modules and libraries of each stage, from the import graph: `infra/deps.py` writes it."""
INSTALLED = Path(__file__).parents[1]
"""The folder with our packages: `site-packages`, or a checkout that is installed as editable."""
SCORING = "score"
"""The stage that runs a project's own metrics."""
ASKING = "generate"
"""The stage that reads a project's own files for the probes of safety."""
# `2.13.0+cpu`: the build is the machine's, and the same code.
_BUILD = re.compile(r"\+.*")


class StageCode(Value):
    """What decides how a stage computes, beside its parameters and its inputs."""

    python: str
    """Major and minor version."""
    libraries: dict[str, str]
    """Installed version of each library that the stage imports."""
    files: dict[str, str]
    """SHA-256 of each module, by its path."""


def read_stage_code(
    stage: str,
    root: Path,
    own: Iterable[str] = (),
    engine: EngineName = TRANSFORMERS,
) -> StageCode:
    """The code that the stage would run now; `WorkspaceError` where a file is missing.

    `own` names files of a project's own that the stage runs, relative to `root`. `engine` is the
    one that computes its answers, where it has some.
    """
    listed = _read_list()[stage]
    files = {module: _digest_of(INSTALLED, module) for module in listed["modules"]}
    names = _libraries_with(engine, listed["libraries"])
    libraries = {name: _installed_version(name) for name in names}
    return StageCode(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        libraries=libraries,
        files=files | {name: _digest_of(root, name) for name in own},
    )


def own_files(stage: str, params: Params) -> tuple[str, ...]:
    """The files of a project's own that a stage runs or reads: metrics, and probes of safety."""
    if stage == ASKING:
        return tuple(path.as_posix() for path in params.safety.files)
    if stage != SCORING:
        return ()
    return tuple(path.as_posix() for path in own_metric_files(params))


def write_stage_codes(root: Path) -> None:
    """Write the code of every stage into a workspace, a file each."""
    folder = root / layout.CODE
    folder.mkdir(parents=True, exist_ok=True)
    params = load_params(root / layout.PARAMS)
    for stage in _read_list():
        own = own_files(stage, params)
        code = read_stage_code(stage, root, own, params.generation.engine)
        code.write(folder / f"{stage}.json")


def check_stage_code(stage: str, root: Path = Path()) -> None:
    """Hold the installed code against what the workspace says that the stage runs.

    `WorkspaceError` where it was changed since: the outs would be recorded as those of other code.
    """
    path = root / layout.CODE / f"{stage}.json"
    if not path.is_file():
        raise WorkspaceError(
            f"{path} does not exist, which says what stage {stage} runs. "
            "Run `assay stage code`, or `dvc repro`."
        )
    before = StageCode.read(path)
    params = load_params(root / layout.PARAMS)
    own = own_files(stage, params)
    now = read_stage_code(stage, root, own, params.generation.engine)
    changed = changes_between(before, now)
    if changed:
        raise WorkspaceError(
            f"The code of stage {stage} changed after this run began ({changed[0]}). "
            "Run the same command again."
        )


def changes_between(before: StageCode, now: StageCode) -> list[str]:
    """What differs, a few words each; nothing where the same code would run."""
    changes = []
    if before.python != now.python:
        changes.append(f"Python {before.python} → {now.python}")
    names = sorted({*before.libraries, *now.libraries})
    for name in names:
        old, new = before.libraries.get(name), now.libraries.get(name)
        if old != new:
            changes.append(f"{name} {old or 'unused'} → {new or 'unused'}")
    files = sorted({*before.files, *now.files})
    changes += [name for name in files if before.files.get(name) != now.files.get(name)]
    return changes


@cache
def _read_list() -> dict[str, dict[str, list[str]]]:
    listed: dict[str, dict[str, list[str]]] = json.loads(
        LISTED.read_text(encoding="utf-8")
    )
    return listed


def _libraries_with(engine: EngineName, listed: list[str]) -> list[str]:
    """The listed libraries, of engines' own that of this one alone.

    Whoever installs another engine, or a newer one, repeats nothing that it did not compute.
    """
    libraries = [name for name in listed if name != OPENVINO]
    # Stages that compute nothing ask none.
    computes = len(libraries) < len(listed)
    if computes and engine != TRANSFORMERS:
        libraries.append(engine)
    return libraries


def _installed_version(library: str) -> str:
    # It lies in an environment of its own.
    if library == VLLM:
        with suppress(NotTaken):
            return installed_version(VLLM)
        return "absent"
    try:
        return _BUILD.sub("", version(library))
    # Some are asked for only where they are installed.
    except PackageNotFoundError:
        return "absent"


def _digest_of(folder: Path, name: str) -> str:
    path = folder / name
    try:
        return sha256_of(path)
    except OSError as error:
        raise WorkspaceError(
            f"{path} cannot be read ({type(error).__name__}), which a stage runs. "
            "Bring it back: `assay doctor` checks the rest."
        ) from error
