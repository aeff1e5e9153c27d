"""The identity of a run's work: everything that its stages read from outside, so that an unchanged run is found again."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from core.files import digest_of_json
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.stage_key import digest_of_dep, setting
from pipelines.values.params import load_params

_POLICIES = "registry/policies/"


def work_key(root: Path, besides: Collection[str] = ()) -> str:
    """SHA-256 over the command, the parameters and the inputs of each stage in `dvc.yaml`.

    What one stage makes for another follows from the rest. Code that no stage depends on does not count,
    and parameters and policies count by what they say, not by how they are written.
    `besides` names inputs that are left out.
    """
    stages = yaml.safe_load((root / layout.DVC_STAGES).read_text(encoding="utf-8"))[
        "stages"
    ]
    made = tuple(out for entry in stages.values() for out in entry["outs"])
    params = _params(root)
    work = {}
    for name, entry in stages.items():
        inputs = [
            dep
            for dep in entry["deps"]
            if dep not in besides and not _is_made(dep, made)
        ]
        work[name] = {
            "cmd": entry["cmd"],
            "params": {
                dotted: setting(params, dotted) for dotted in entry.get("params", [])
            },
            "deps": {dep: _input(root, dep) for dep in inputs},
        }
    return digest_of_json(work)


def _params(root: Path) -> dict[str, Any]:
    params = load_params(root / layout.PARAMS).model_dump(mode="json")
    if params["base_model"]["digest"] is not None:
        params["base_model"]["path"] = (
            None  # the digest names the files, wherever they lie
        )
    return params


def _is_made(dep: str, made: tuple[str, ...]) -> bool:
    return any(dep == out or dep.startswith(f"{out}/") for out in made)


def _input(root: Path, dep: str) -> Any:
    if dep.startswith(_POLICIES):
        return load_policy(root / dep).gates.model_dump(mode="json")
    return digest_of_dep(root / dep)
