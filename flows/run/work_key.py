"""The identity of a run's work: everything that its stages read from outside.

A run whose identity is that of an earlier one has nothing to do.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from core.files import digest_of_json
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.stage_key import digest_dependency, read_setting
from pipelines.values.params import load_params

_POLICIES = f"{layout.POLICIES}/"


def identify(root: Path, model: str) -> str:
    """The logical run that this workspace would do for a model.

    The same work under two names is a run of each.
    """
    work = work_key(root)
    return digest_of_json({"model": model, "work": work})


def recipe_of(root: Path) -> str:
    """What makes the adapter and its scores, without the champion that they are compared with."""
    champion = layout.CHAMPION.as_posix()
    return work_key(root, besides={champion})


def work_key(root: Path, besides: Collection[str] = ()) -> str:
    """SHA-256 over command, code, parameters and inputs of each stage in `dvc.yaml`.

    What one stage makes for another follows from the rest. Code that no stage depends on does not
    count. Parameters and policies count by what they say, not by how they are written. `besides`
    names inputs that are left out.
    """
    text = (root / layout.DVC_STAGES).read_text(encoding="utf-8")
    stages = yaml.safe_load(text)["stages"]
    # The code of the stages was written into the workspace: it is an input, whoever made it.
    code = layout.CODE.as_posix()
    outs = tuple(
        out for entry in stages.values() for out in entry["outs"] if out != code
    )
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
