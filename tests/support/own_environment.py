"""Programs that do not fit beside our libraries, each in an environment of its own."""

import subprocess
import sysconfig
import venv
from pathlib import Path

_SECONDS_TO_INSTALL = 1200


def make_environment(folder: Path, *packages: str, sees_ours: bool = False) -> Path:
    """The folder of its programs, `python` among them.

    With `sees_ours` it reads our libraries, such as torch; what is added stays in its own folder.
    """
    venv.create(folder, with_pip=True)
    if sees_ours:
        ours, version = sysconfig.get_path("purelib"), sysconfig.get_python_version()
        site = folder / f"lib/python{version}/site-packages"
        (site / "ours.pth").write_text(f"{ours}\n")
    programs = folder / "bin"
    subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", *packages],
        check=True,
        timeout=_SECONDS_TO_INSTALL,
    )
    return programs
