"""The identity of a stage's work: its command, its parameters and the bytes that it depends on."""

from pathlib import Path
from typing import Any

import yaml

from core.files import digest_of_json, folder_digests, sha256_of
from pipelines import layout


def stage_key(stage: str, root: Path = Path()) -> str:
    """SHA-256 under which two runs do the same work: one trains, the other waits; a killed one finds its checkpoints."""
    entry = yaml.safe_load((root / layout.DVC_STAGES).read_text(encoding="utf-8"))[
        "stages"
    ][stage]
    params = yaml.safe_load((root / layout.PARAMS).read_text(encoding="utf-8"))
    return digest_of_json(
        {
            "cmd": entry["cmd"],
            "params": {name: setting(params, name) for name in entry.get("params", [])},
            "deps": {dep: digest_of_dep(root / dep) for dep in entry["deps"]},
        }
    )


def setting(document: Any, dotted: str) -> Any:
    """The value at a dotted name."""
    for part in dotted.split("."):
        document = document[part]
    return document


def digest_of_dep(path: Path) -> Any:
    """A file's SHA-256, or those of a folder's files by their names."""
    if path.is_dir():
        return {
            name: digest
            for name, digest in folder_digests(path).items()
            if "__pycache__" not in name
        }
    return sha256_of(path)
