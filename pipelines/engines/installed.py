"""Which version of an engine is on this machine, before anything is loaded."""

import subprocess
from importlib.metadata import PackageNotFoundError, version

from core.settings import Settings
from pipelines.engines import OPENVINO, VLLM, NotTaken
from pipelines.values.engine_name import EngineName

# Without importing vLLM, which would take a minute where nothing is compiled.
_VLLM_VERSION = """
import importlib.util, runpy
[folder] = importlib.util.find_spec("vllm").submodule_search_locations
print(runpy.run_path(folder + "/_version.py")["__version__"])
"""
_SECONDS = 60


def installed_version(engine: EngineName) -> str:
    """The version of an engine's library; `NotTaken` where it is not here, with what brings it."""
    if engine == VLLM:
        return _ask_vllm()
    try:
        return version(engine)
    except PackageNotFoundError as error:
        way = (
            f"`pip install 'assay[{OPENVINO}]'`" if engine == OPENVINO else "install it"
        )
        raise NotTaken(f"{engine} is not installed here: {way}") from error


def _ask_vllm() -> str:
    python = Settings().vllm_python
    if python is None:
        raise NotTaken(
            "ASSAY_VLLM_PYTHON does not name a Python that has vLLM: "
            "docs/how-to/serve-with-vllm.md makes one"
        )
    try:
        asked = subprocess.run(
            [python, "-c", _VLLM_VERSION],
            check=True,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotTaken(
            f"{python}, which ASSAY_VLLM_PYTHON names, has no vLLM"
        ) from error
    return asked.stdout.strip()
