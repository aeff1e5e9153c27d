"""The Dockerfiles are built: every step runs, on a Debian that is made for it."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from core.ready import parse_ready
from tests.support.journey import ROOT
from tests.support.waiting import SECONDS_AT_MOST

DOCKERFILE = ROOT / "infra/images/endpoint.Dockerfile"
_PROGRAMS = ("buildah", "mmdebstrap")
_MISSING = [program for program in _PROGRAMS if shutil.which(program) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(_MISSING), reason=f"{_MISSING} missing: infra/debian.sh buildah mmdebstrap"
    ),
]
_DEBIAN = ("python3", "python3-venv", "ca-certificates")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Builder:
    """buildah with a storage of its own, which no other program sees."""

    folder: Path

    def run(self, *arguments: str | Path) -> str:
        """Run it to its end; gives what it printed."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=SECONDS_AT_MOST,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
        return done.stdout.strip()

    def command(self, *arguments: str | Path) -> list[str]:
        root, runs = str(self.folder / "root"), str(self.folder / "run")
        storage = ("--root", root, "--runroot", runs)
        # Neither a daemon nor a kernel's overlays are needed.
        return ["buildah", *storage, "--storage-driver", "vfs", *map(str, arguments)]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    made = Builder(tmp_path_factory.mktemp("images"))
    try:
        made.run("info")
    except AssertionError as error:
        pytest.skip(f"buildah cannot run here: {error}")
    yield made
    # Gigabytes, which pytest would keep for three runs.
    shutil.rmtree(made.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def container(builder: Builder) -> str:
    """A container of the endpoint's image, on a base that stands in for one of a registry.

    One for all tests: without overlays each is a copy of the whole image.
    """
    context = builder.folder / "context"
    wheel = ("build", "--quiet", "--wheel", "--out-dir", str(context), str(ROOT))
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, *wheel], check=True, timeout=SECONDS_AT_MOST)
    shutil.copy(ROOT / "requirements.lock", context)
    volumes = [f"--volume={folder}:{folder}:ro" for folder in index_folders()]
    builder.run(
        "bud",
        *("--isolation", "chroot", "--layers=false", "--tag", "assay-endpoint"),
        *("--build-arg", f"BASE={make_base(builder)}"),
        *("--build-arg", "TORCH=torch==2.13.0"),
        *volumes,
        *("--file", DOCKERFILE),
        context,
    )
    return builder.run("from", "localhost/assay-endpoint")


def make_base(builder: Builder) -> str:
    """Debian with Python, which reaches packages as this machine does; gives its name."""
    archive = builder.folder / "debian.tar"
    packages = ",".join(_DEBIAN)
    make = ["mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm"]
    subprocess.run(
        [*make, str(archive)], check=True, timeout=SECONDS_AT_MOST, capture_output=True
    )
    settings = builder.folder / "pip.conf"
    settings.write_text(pip_settings(), encoding="utf-8")
    container = builder.run("from", "scratch")
    builder.run("add", container, archive, "/")
    builder.run("copy", container, settings, "/etc/pip.conf")
    builder.run("copy", container, _CERTIFICATES, _CERTIFICATES)
    builder.run("config", "--env", f"SSL_CERT_FILE={_CERTIFICATES}", container)
    builder.run("commit", "--rm", container, "debian-with-python")
    archive.unlink()
    return "localhost/debian-with-python"


def configured(*names: str) -> dict[str, str]:
    """What pip is told here about where packages are."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    told = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", told.stdout, flags=re.MULTILINE)
    return {name: value for name, value in lines if name in names}


def pip_settings() -> str:
    told = configured("index-url", "extra-index-url", "find-links")
    lines = [f"{name} = {value}" for name, value in told.items()]
    return "\n".join(["[global]", *lines, ""])


def index_folders() -> set[str]:
    """Folders of this machine that packages come from, each with what lies beside it."""
    told = configured("index-url", "extra-index-url", "find-links")
    paths = re.findall(r"(?:file://|(?<![\w:/]))(/[^\s']+)", " ".join(told.values()))
    tops = {Path(*Path(path).parts[:3]) for path in paths}
    return {str(top) for top in tops if top.is_dir()}


def test_the_image_holds_the_endpoint_and_neither_prefect_nor_mlflow(
    builder: Builder, container: str
) -> None:
    words = (
        "import importlib.util as u, os;"
        "found = [n for n in ('torch', 'psycopg', 'pyarrow', 'prefect', 'mlflow')"
        " if u.find_spec(n)];"
        "print(os.getuid(), *found)"
    )
    run = ("run", "--isolation", "chroot", container, "--")
    assert builder.run(*run, "python", "-c", words) == "10001 torch psycopg pyarrow"


def test_an_endpoint_starts_in_it_as_the_image_says(
    builder: Builder, container: str
) -> None:
    words = "{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}"
    told = builder.run("inspect", "--format", words, container)
    assert told == "[python -m serving.endpoint] [--host 0.0.0.0 --port 8080]"
    # On another port: this machine's network is the container's.
    start = ("python", "-m", "serving.endpoint", "--port", "0")
    run = ("run", "--isolation", "chroot", container, "--", *start)
    command = builder.command(*run)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert parse_ready(process.stdout.readline())
        finally:
            end(process.pid)


def end(pid: int) -> None:
    """End what was started and all below it."""
    top = psutil.Process(pid)
    processes = [*top.children(recursive=True), top]
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _gone, alive = psutil.wait_procs(processes, timeout=SECONDS_AT_MOST)
    assert not alive
