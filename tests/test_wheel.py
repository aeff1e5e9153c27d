"""The wheel holds all that the command line needs: it starts in a folder without a checkout."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
LOADED_BY_PATH = ("__main__", "evaluate_modules/", "migrations/")
"""Started as programs, or loaded by `evaluate` and alembic."""

pytestmark = pytest.mark.ci


class Installed(NamedTuple):
    """A wheel, and an environment that has it and the project's libraries, but not the checkout."""

    wheel: Path
    python: Path
    away: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run it in a folder of its own, without what points at the checkout."""
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.away), "LANG": "C.UTF-8"}
        return subprocess.run(
            command,
            cwd=self.away,
            env=kept,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def installed(built: Installed, tmp_path: Path) -> Installed:
    """The environment, with a folder of the test's own to start from."""
    return built._replace(away=tmp_path)


@pytest.fixture(scope="module")
def built(cloned: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from the tracked files alone, so that nothing untracked can be missing elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        str(UV),
        "build",
        "--wheel",
        "--quiet",
        "--out-dir",
        str(folder),
        str(cloned),
    ]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True, with_pip=False)
    python = folder / "venv/bin/python"
    install = [
        str(UV),
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--python",
        str(python),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    libraries = Path(sysconfig.get_path("purelib"))
    site = next((folder / "venv/lib").glob("python*/site-packages"))
    # A path in a .pth file is searched after the environment itself, and its own .pth files are not
    # read: the checkout that is installed there as editable stays out.
    (site / "libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    return Installed(wheel, python, folder)


def packages(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if "/" in name}
    return {top for top in tops if not top.endswith(".dist-info")}


def test_the_wheel_holds_each_package_of_the_project_with_its_types(
    installed: Installed,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages(installed.wheel) == wanted
    with zipfile.ZipFile(installed.wheel) as archive:
        names = set(archive.namelist())
    assert {f"{package}/py.typed" for package in wanted} <= names


def test_every_package_comes_from_the_wheel_and_not_from_the_checkout(
    installed: Installed,
) -> None:
    names = sorted(packages(installed.wheel))
    code = f"import {', '.join(names)}; print(*(p.__path__[0] for p in ({', '.join(names)},)))"
    found = installed.run(str(installed.python), "-c", code)
    assert found.returncode == 0, found.stderr
    places = [Path(place) for place in found.stdout.split()]
    assert len(places) == len(names)
    assert all(place.is_relative_to(installed.python.parents[1]) for place in places), (
        places
    )


def test_the_command_line_starts_away_from_any_checkout(installed: Installed) -> None:
    assay = str(installed.python.with_name("assay"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    asked = installed.run(assay, "--version")
    assert asked.returncode == 0, asked.stderr
    assert project["version"] in asked.stdout
    shown = installed.run(assay, "--help")
    assert shown.returncode == 0, shown.stderr
    assert {"run", "promote", "doctor"} <= set(shown.stdout.split())
    assert list(installed.away.iterdir()) == []


def test_a_command_that_needs_a_checkout_says_so_in_one_line(
    installed: Installed,
) -> None:
    found = installed.run(str(installed.python.with_name("assay")), "status")
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("assay: ")
    assert "assay.toml" in line
    assert list(installed.away.iterdir()) == []


def test_each_module_can_be_imported_from_the_wheel(installed: Installed) -> None:
    """A module that only the checkout has would show here, not in `--help`."""
    with zipfile.ZipFile(installed.wheel) as archive:
        files = [name for name in archive.namelist() if name.endswith(".py")]
    tops = packages(installed.wheel)
    inside = [name for name in files if name.split("/")[0] in tops]
    plain = [
        name for name in inside if not any(part in name for part in LOADED_BY_PATH)
    ]
    bare = [name.removesuffix(".py").removesuffix("/__init__") for name in plain]
    modules = [name.replace("/", ".") for name in bare]
    code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
    found = installed.run(str(installed.python), "-c", code, *modules)
    assert found.returncode == 0, found.stderr
