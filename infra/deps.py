"""Write the code deps of every stage into dvc.yaml, from the import graph.

Run it as `python infra/deps.py`.
"""

from pathlib import Path

import grimp
import yaml

ROOT = Path(__file__).parents[1]
HEAD = """\
# The stages that turn files into files. `dvc repro` runs them by hand; flows/train.py runs the
# same ones, one task each. Code deps are transitive imports: `python infra/deps.py` writes them,
# tests/pipelines/test_dvc_deps.py compares them.
"""


def code_deps(graph: grimp.ImportGraph, stage: str) -> list[str]:
    """Files of the stage's module and of everything that it imports; the metrics as one folder."""
    module = f"pipelines.stages.{stage}"
    names = {module, *graph.find_upstream_modules(module)}
    files = {
        name.replace(".", "/") + ".py"
        for name in names
        if "pipelines.metrics" not in name
    }
    found = sorted(file for file in files if (ROOT / file).is_file())
    return found + (
        ["pipelines/metrics"]
        if any("pipelines.metrics" in name for name in names)
        else []
    )


def main() -> None:
    """Replace every dep on code."""
    path = ROOT / "dvc.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    graph = grimp.build_graph("core", "pipelines", cache_dir=None)
    for stage, entry in document["stages"].items():
        entry["deps"] = [
            dep for dep in entry["deps"] if not dep.startswith(("core/", "pipelines/"))
        ] + code_deps(graph, stage)
    path.write_text(
        HEAD + yaml.safe_dump(document, sort_keys=False, width=100), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
