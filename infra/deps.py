"""Write which modules and libraries each stage imports, however far, from the import graph.

Run it as `python infra/deps.py`.
"""

import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp

from pipelines.__main__ import STAGES

ROOT = Path(__file__).parents[1]
LIST = ROOT / "pipelines/stage_modules.json"
OURS = ("core", "pipelines")
# They decide about tokens, weights and steps, and come in behind others.
BEHIND = {
    "transformers": ("gguf", "safetensors", "tokenizers"),
    "trl": ("accelerate",),
}
# They show progress, look at the machine, carry questions to vLLM or hold answers to JSON, which no
# scored answer is held to: no result is another with another version.
WITHOUT_EFFECT = {"httpx", "llguidance", "psutil", "rich"}


def stage_modules(graph: grimp.ImportGraph, stage: str) -> dict[str, list[str]]:
    """Modules of ours as paths, and the distributions of all others, both sorted."""
    module = f"pipelines.stages.{stage}"
    names = {module, *graph.find_upstream_modules(module)}
    paths = {path for name in names if name.startswith(OURS) for path in paths_of(name)}
    return {"modules": sorted(paths), "libraries": sorted(distributions(names))}


def paths_of(module: str) -> list[str]:
    """The module's file, and for a package with files of another kind those too."""
    path = module.replace(".", "/")
    found = [f"{path}.py", f"{path}/__init__.py"]
    # Its modules are loaded by their path, which no import shows.
    if module == "pipelines.metrics.evaluate_modules":
        found += [
            each.relative_to(ROOT).as_posix() for each in (ROOT / path).glob("*/*.py")
        ]
    return [each for each in found if (ROOT / each).is_file()]


def distributions(names: set[str]) -> set[str]:
    """Names on the package index of the libraries among imported modules."""
    by_module = installed_distributions()
    others = {
        name.split(".")[0] for name in names if not name.startswith(OURS)
    } - sys.stdlib_module_names
    found = {each.lower() for name in others for each in by_module.get(name, [])[:1]}
    found |= {each for name in found for each in BEHIND.get(name, ())}
    return found - WITHOUT_EFFECT


@cache
def installed_distributions() -> Mapping[str, list[str]]:
    """By module; asked once, since every installed file's name is read for it."""
    return packages_distributions()


def stage_list() -> dict[str, dict[str, list[str]]]:
    """The whole list, as the file should hold it."""
    graph = grimp.build_graph(
        *OURS,
        include_external_packages=True,
        # What is imported for types alone does not run.
        exclude_type_checking_imports=True,
        cache_dir=None,
    )
    return {stage: stage_modules(graph, stage) for stage in STAGES}


if __name__ == "__main__":
    LIST.write_text(json.dumps(stage_list(), indent=1) + "\n", encoding="utf-8")
