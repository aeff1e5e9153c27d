"""An environment with vLLM for processors, as `infra/vllm_cpu.sh` makes it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.engines.vllm import server

VLLM_HEAD_SIZE = 32
"""Of a tiny base: on a processor vLLM computes attention for no smaller one."""
_SCRIPT = Path(__file__).parents[2] / "infra/vllm_cpu.sh"
_SECONDS_TO_INSTALL = 3600


def find_or_make_vllm(folder: Path) -> Path:
    """Its Python: the developer's own where a variable names it, for 3.4 GB are written else."""
    own = os.environ.get("ASSAY_TEST_VLLM_PYTHON")
    if own:
        return Path(own)
    subprocess.run(
        [_SCRIPT, folder],
        check=True,
        env={**os.environ, "PYTHON": sys.executable},
        timeout=_SECONDS_TO_INSTALL,
    )
    return folder / "bin/python"


@contextmanager
def patient_vllm(python: Path) -> Iterator[None]:
    """Within, that Python's vLLM computes; what takes how long on a busy machine is not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_SECONDS_TO_START", 600.0)
        patch.setenv("ASSAY_VLLM_PYTHON", str(python))
        yield
