"""Running Python as another account of this machine, which only root can do."""

import os
import subprocess
import sys
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from tests.support.waiting import SECONDS_AT_MOST

ROOT = 0
NOBODY = 65534
_TREE = Path(__file__).parents[2]
_DISTRIBUTIONS = "/usr/bin/python3.11"
"""Where the environment's own interpreter lies in a folder that only its owner may enter."""


def run_as(
    uid: int, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments as that account, whose home folder is `/`."""
    own_variables = {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("ASSAY_", "SUDO_", "MLFLOW_", "PREFECT_"))
    }
    environment_of_python = {
        **own_variables,
        "PYTHONPATH": f"{_TREE}{os.pathsep}{get_path('purelib')}",
        "HOME": "/",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    becoming: dict[str, Any] = (
        {} if uid == os.getuid() else {"user": uid, "group": uid, "extra_groups": []}
    )
    return subprocess.run(
        [_interpreter(uid), *arguments],
        env=environment_of_python | environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_AT_MOST,
        **becoming,
    )


def _interpreter(uid: int) -> str:
    if uid == os.getuid():
        return sys.executable
    if os.getuid() != ROOT:
        pytest.skip("only root can become another account")
    for python in (sys.executable, _DISTRIBUTIONS):
        if _runs(python, uid):
            return python
    pytest.skip(
        f"no Python that account {uid} may run sees this checkout and its environment"
    )


def _runs(python: str, uid: int) -> bool:
    environment = {
        "PYTHONPATH": f"{_TREE}{os.pathsep}{get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [python, "-c", "import pydantic_core, core.account"]
    try:
        return (
            subprocess.run(
                command,
                user=uid,
                group=uid,
                env=environment,
                cwd="/",
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )
    except PermissionError:
        return False
