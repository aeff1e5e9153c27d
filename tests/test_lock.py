"""One lock for every Python that the project names: consistent, and what resolves on each."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from core.supported import (
    NEWEST,
    OLDEST,
    describe_unsupported_python,
    describe_unsupported_system,
    describe_untried_system,
)

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
PYTHONS = [f"3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
# pip takes the build that fits the machine, before the lock is installed.
_NOT_LOCKED = {"pip", "torch"}
_LINE = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)(?: *; *([^\\\n]+))?", re.MULTILINE)


def locked(python: str, text: str) -> dict[str, list[str]]:
    """Versions that a list of requirements gives to each package, on Linux with that Python."""
    # What is not given is as on this machine.
    there = {"python_version": python, "python_full_version": f"{python}.3"}
    versions: dict[str, list[str]] = {}
    for name, version, marker in _LINE.findall(text):
        if not marker or Marker(marker).evaluate(there):
            versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


def lock() -> str:
    return (ROOT / "requirements.lock").read_text(encoding="utf-8")


def direct() -> list[Requirement]:
    """Everything that pyproject.toml names, of each extra, without the extras themselves."""
    extras = PROJECT["optional-dependencies"].values()
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    needed = [Requirement(text) for text in texts]
    return [each for each in needed if each.name not in {*_NOT_LOCKED, PROJECT["name"]}]


@pytest.mark.parametrize("python", PYTHONS)
def test_each_package_has_one_version_and_each_direct_one_fits(python: str) -> None:
    versions = locked(python, lock())
    assert {name: each for name, each in versions.items() if len(each) != 1} == {}
    needed = direct()
    assert len(needed) > 40
    for requirement in needed:
        (version,) = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), requirement


def test_each_package_of_the_lock_has_hashes() -> None:
    packages = re.split(r"\n(?=[A-Za-z0-9])", lock())[1:]
    assert packages
    assert [each for each in packages if "--hash=sha256:" not in each] == []


def test_the_pythons_of_the_project_are_those_of_its_files() -> None:
    asked = SpecifierSet(PROJECT["requires-python"])
    every = [f"3.{minor}" for minor in range(6, 20)]
    assert [each for each in every if each in asked] == PYTHONS
    prefix = "Programming Language :: Python :: "
    named = [each for each in PROJECT["classifiers"] if each.startswith(prefix)]
    assert named == [prefix + each for each in PYTHONS]
    check = (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")
    assert all(f'"{each}"' in check for each in PYTHONS)


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7), (4, 0)])
def test_another_python_is_refused_in_one_sentence(version: tuple[int, int]) -> None:
    said = describe_unsupported_python(version)
    assert said is not None
    assert said.startswith(f"This is Python {version[0]}.{version[1]}, and Assay needs")
    assert "3.11 to 3.13" in said


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_each_python_of_the_project_is_accepted(version: tuple[int, int]) -> None:
    assert describe_unsupported_python(version) is None


def test_windows_is_refused_and_macos_is_called_untried() -> None:
    assert "Use WSL 2" in (describe_unsupported_system("win32") or "")
    assert [describe_unsupported_system(each) for each in ("linux", "darwin")] == [
        None
    ] * 2
    assert "This is darwin" in (describe_untried_system("darwin") or "")
    assert describe_untried_system("linux") is None


@pytest.mark.ci
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_is_what_resolves_on_each_python(python: str, tmp_path: Path) -> None:
    command = [
        *(str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"),
        *("pyproject.toml", "--extra", "dev", "--python-version", f"{python}.3"),
        *("--constraint", "requirements.lock", "--no-header", "--no-annotate"),
    ]
    resolved = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert resolved.returncode == 0, resolved.stderr
    parts_of_torch = re.compile(r"torch|triton|cuda-.*|nvidia-.*|pip")
    wanted = {
        name: versions
        for name, versions in locked(python, resolved.stdout).items()
        if not parts_of_torch.fullmatch(name)
    }
    assert locked(python, lock()) == wanted
