"""What every test and every process that it starts inherits.

Nothing that the developer set, and one thread each.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path

import pytest

_SET_BY_DEVELOPERS = ("ASSAY_", "DVC_", "GIT_", "MLFLOW_", "OMP_", "PREFECT_")
_KEPT = {
    "ASSAY_SCREENSHOTS",  # asks tests/flows/test_run_form.py for its pictures
    "ASSAY_TEST_VLLM_PYTHON",  # an environment that is there already, for the tests of vLLM
}
_SETTINGS = {
    # The name of a branch, an identity or a hook in the developer's own git settings changes no
    # test.
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    # The last digits of a sum depend on how many threads share it, and two processes of tests share
    # two cores.
    "OMP_NUM_THREADS": "1",
    # Each would import for seconds beside every endpoint of a test; where they are tested they are
    # asked for.
    "ASSAY_SPARE_ENGINES": "0",
    # By itself an endpoint would compile each release for another engine, in a process beside it.
    "ASSAY_ENGINE": "transformers",
}


def isolate(environment: MutableMapping[str, str]) -> None:
    """Remove the developer's variables and set our own.

    Call it before torch, git or Prefect read them.
    """
    for name in list(environment):
        if name.startswith(_SET_BY_DEVELOPERS) and name not in _KEPT:
            del environment[name]
    environment.update(_SETTINGS)


def use_home(patch: pytest.MonkeyPatch, home: Path, mlflow: Path) -> None:
    """Have `assay` in this process use that home and that MLflow database."""
    patch.delenv("ASSAY_LEDGER_URL", raising=False)
    patch.setenv("ASSAY_HOME", str(home))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{mlflow}")
