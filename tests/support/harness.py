"""An environment with lm-evaluation-harness beside this one's libraries."""

import subprocess
import sysconfig
import venv
from pathlib import Path

from core.files import write_text

HARNESS = "lm_eval==0.4.13"


def make_harness(folder: Path) -> Path:
    """Its Python; what it adds to this environment is installed from the package index."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    # torch and transformers are read from here; what the harness adds stays in its own folder.
    ours, version = sysconfig.get_path("purelib"), sysconfig.get_python_version()
    site = folder / f"lib/python{version}/site-packages"
    write_text(site / "ours.pth", f"{ours}\n")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", HARNESS],
        check=True,
        timeout=900,
    )
    return python
