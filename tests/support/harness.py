"""An environment with lm-evaluation-harness beside this one's libraries."""

from pathlib import Path

from tests.support.own_environment import make_environment

HARNESS = "lm_eval==0.4.13"


def make_harness(folder: Path) -> Path:
    """Its Python; what it adds to this environment is installed from the package index."""
    return make_environment(folder, HARNESS, sees_ours=True) / "python"
