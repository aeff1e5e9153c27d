"""The identity of a run's work: everything that its stages read from outside.

A run whose identity is that of an earlier one has nothing to do.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from core.errors import WorkspaceError
from core.files import digest_of_json
from pipelines import layout
from pipelines.__main__ import STAGES
from pipelines.gates.policy import load_policy
from pipelines.stage_key import digest_dependency, read_setting
from pipelines.values.params import load_params

_POLICIES = f"{layout.POLICIES}/"
_RESERVE = {layout.SEEN_GROUPS.as_posix(), layout.BLOCK_INPUT.as_posix()}
"""Which groups are sealed changes with each candidate, and makes no other work of the same rows."""


def identify(root: Path, model: str) -> str:
    """The logical run that this workspace would do for a model.

    The same work under two names is a run of each.
    """
    work = work_key(root, besides=_RESERVE)
    return digest_of_json({"model": model, "work": work})


def recipe_of(root: Path) -> str:
    """What makes the adapter and its scores, without the champion that they are compared with."""
    champion = layout.CHAMPION.as_posix()
    return work_key(root, besides={champion, *_RESERVE})


def work_key(root: Path, besides: Collection[str] = ()) -> str:
    """SHA-256 over command, code, parameters and inputs of each stage in `dvc.yaml`.

    What one stage makes for another follows from the rest. Code that no stage depends on does not
    count. Parameters and policies count by what they say, not by how they are written. `besides`
    names inputs that are left out.
    """
    stages = _read_stages(root / layout.DVC_STAGES)
    outs = tuple(out for entry in stages.values() for out in entry["outs"])
    params = _read_params(root)
    work = {}
    for name, entry in stages.items():
        deps = [dep for dep in entry.get("deps", []) if dep not in besides]
        inputs = [dep for dep in deps if not _is_out(dep, outs)]
        names = entry.get("params", [])
        work[name] = {
            "cmd": entry["cmd"],
            "params": {dotted: read_setting(params, dotted) for dotted in names},
            "deps": {dep: _digest_of_input(root, dep) for dep in inputs},
        }
    return digest_of_json(work)


def _read_stages(path: Path) -> dict[str, Any]:
    """The stages that a run runs; others of the same file are a person's own.

    `WorkspaceError` where one is missing.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    stages = document.get("stages", {}) if isinstance(document, dict) else {}
    missing = [name for name in STAGES if name not in stages]
    if missing:
        raise WorkspaceError(
            f"{path} has no stage {missing[0]}. `assay upgrade` shows what it should say."
        )
    return {name: stages[name] for name in STAGES}


def _read_params(root: Path) -> dict[str, Any]:
    path = root / layout.PARAMS
    params = load_params(path).model_dump(mode="json")
    if params["base_model"]["digest"] is not None:
        # The digest names the files, wherever they are.
        params["base_model"]["path"] = None
    return params


def _is_out(dep: str, outs: tuple[str, ...]) -> bool:
    for out in outs:
        inside = f"{out}/"
        if dep == out or dep.startswith(inside):
            return True
    return False


def _digest_of_input(root: Path, dep: str) -> Any:
    if dep.startswith(_POLICIES):
        # By what it says: a comment in a policy makes no other work.
        gates = load_policy(root / dep).gates
        return gates.model_dump(mode="json")
    return digest_dependency(root / dep)
