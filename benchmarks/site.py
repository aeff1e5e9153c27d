"""A place to measure releases in: a clone, versions of a tiny model, and the processes around them.

The endpoint and the controller are processes, as under `assay up`; MLflow is the home's own
database, and there is no Prefect. Nothing here is faster than it would be there: whoever wishes
goes through the same ledger, judge, package checks, engine processes and probe.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from core.files import digest_of_json
from core.ready import parse_ready, ready_line

ROOT = Path(__file__).resolve().parents[1]
MODEL = "letters-tiny"
BASELINE, CANDIDATE = "1", "2"
"""What serves, and the version that beats it."""
_WEAK, _STRONG = 40, 160
"""Steps of training."""
_WIDER = {
    "max_output_score_difference: 10.0": "max_output_score_difference: 50.0",
    "reserve: sealed": "reserve: none",
}
"""Lines of the default policy, and what stands there in the clone."""


@dataclass(frozen=True)
class Site:
    """A checkout with two judged versions, and what to run in it."""

    scratch: Path

    @property
    def checkout(self) -> Path:
        """A clone of what is committed."""
        return self.scratch / "checkout"

    @property
    def home(self) -> Path:
        """Everything that Assay keeps outside git."""
        return self.scratch / "home"

    @property
    def is_prepared(self) -> bool:
        """Whether version 1 serves, and version 2 is judged."""
        return self._note.exists()

    @cached_property
    def seed(self) -> int:
        """Another one in each use of the same site."""
        return time.time_ns()

    @property
    def _note(self) -> Path:
        return self.scratch / "prepared"

    def note_prepared(self) -> None:
        """Write down that it is."""
        self._note.touch()

    @cached_property
    def environment(self) -> dict[str, str]:
        """This interpreter first, everything else kept in `home`, one thread each."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {
            "PATH": path,
            "ASSAY_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "ASSAY_RUN_PID": str(os.getpid()),
        }
        return {**os.environ, **own}

    def assay(self, *words: str) -> None:
        """`assay WORDS`, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(
                f"assay {' '.join(words[:3])} ended with {done.returncode}: "
                f"{(done.stderr or done.stdout).strip()[-800:]}"
            )

    def enter(self) -> None:
        """Have this process work in it, as a command there would."""
        os.chdir(self.checkout)
        os.environ.update(self.environment)


def prepare(site: Site) -> None:
    """A clone of what is committed here, and a first version that is trained and passes."""
    from tests.support.journey import learnable_rows, write_rows
    from tests.support.tiny import make_tiny_base

    scratch = site.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    command = ["git", "clone", "--quiet", str(ROOT), str(site.checkout)]
    subprocess.run(command, check=True)
    _widen_policy(site)
    make_tiny_base(scratch / "tiny")
    write_rows(scratch / "letters.jsonl", learnable_rows())
    _train(site, _WEAK)


def _widen_policy(site: Site) -> None:
    """Let a version pass that is trained for a few steps, and as uneven as that makes it.

    The better one needs something that it can be better than. Nothing is sealed: the rows are too
    few, and a release is measured, not a year.
    """
    path = site.checkout / "registry/policies/default.yaml"
    text = path.read_text(encoding="utf-8")
    for before, after in _WIDER.items():
        if before not in text:
            raise SystemExit(f"{path} has no line with {before!r}: correct _WIDER.")
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")
    identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    command = ["git", *identity, "commit", "--quiet", "-am", "Widen the policy"]
    subprocess.run(command, cwd=site.checkout, check=True)


def first_releases(site: Site, waived: tuple[str, ...]) -> None:
    """Version 1 is released; version 2 is trained against it and passes.

    Needs an endpoint. Who trains waives nothing: two people who are not there do.
    """
    from tests.support.waivers import waive_as_others

    waive_as_others(site.home, MODEL, waived, hours=24)
    site.assay("promote", BASELINE, "--model", MODEL, "--reason", "benchmark")
    _train(site, _STRONG)
    site.note_prepared()


def register_twins(site: Site, count: int) -> tuple[str, ...]:
    """So many more versions with the bytes of version 2; gives their numbers.

    A wish for what served before goes back and loads nothing: each wish needs a version of its own.
    """
    from core.project import find_project
    from flows.run.registration import enter_version
    from pipelines.values.verdict import Finalist
    from registry.ledger.ledger import open_ledger
    from registry.mlflow.home_store import open_store
    from registry.mlflow.recorded import Page, RecordedRun, Submission

    store, ledger = open_store(find_project(site.home)), open_ledger(site.home)
    packages = site.home / "packages"
    made = store.get_version(MODEL, CANDIDATE)
    package = store.fetch(made, packages / made.package_sha256)
    finalist = Finalist.read(package / "verdict.json")
    run = RecordedRun(run_id=made.run_id, verdict="passed")
    numbers = []
    for number in range(count):
        submission = Submission(
            run=run,
            package=package,
            model=MODEL,
            # Of a run that might have made the same: no two versions are of one run.
            logical_run=digest_of_json([made.logical_run, site.seed, number]),
            page=Page(description="a twin of version 2", tags={}),
            takes_challenger=False,
        )
        version = store.register(finalist, submission)
        enter_version(ledger, store, packages, version, package)
        numbers.append(version.version)
    return tuple(numbers)


def _train(site: Site, steps: int) -> None:
    from tests.support.journey import SETTINGS

    settings = [
        *(each for each in SETTINGS if "max_steps" not in each),
        f"train.max_steps={steps}",
    ]
    site.assay(
        "run",
        "--data",
        str(site.scratch / "letters.jsonl"),
        "--base-model",
        str(site.scratch / "tiny"),
        *(word for setting in settings for word in ("--set", setting)),
    )


@dataclass(frozen=True)
class RunningEndpoint:
    """The endpoint's process: where it answers, and its log."""

    port: int
    pid: int
    log: Path

    def wait_for_spare(self, seconds: float) -> bool:
        """Whether, within that time, a spare engine process is ready for the next release."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._has_spare():
                return True
            time.sleep(0.1)
        return False

    def _has_spare(self) -> bool:
        """A process that waits is in the log as ready and in no record."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        ready = [
            line.split()[3]
            for line in lines
            if line.startswith("Spare engine process") and " is ready" in line
        ]
        folder = self.log.parent / "home" / "endpoint" / "engines"
        if not ready or (folder / f"{ready[-1]}.json").exists():
            return False
        return Path(f"/proc/{ready[-1]}").exists()


@contextmanager
def running_endpoint(
    site: Site, module: str = "serving.endpoint"
) -> Iterator[RunningEndpoint]:
    """The endpoint of the site's home, once it is ready."""
    command = [sys.executable, "-m", module, "--home", str(site.home), "--port", "0"]
    log = site.scratch / f"endpoint-{time.monotonic_ns()}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command,
            cwd=site.checkout,
            env=site.environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            port = urlsplit(parse_ready(line) or "").port
            if port is None:
                raise SystemExit(f"the endpoint does not start: {log.read_text()}")
            yield RunningEndpoint(port, process.pid, log)
        finally:
            process.terminate()


@contextmanager
def running_controller(site: Site) -> Iterator[None]:
    """The controller of the site's home, with the timer that `assay up` gives it."""
    log = site.scratch / "controller.log"
    command = [sys.executable, "-m", "operations.controller"]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=site.checkout,
            env=site.environment,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait_for(log, ready_line("the controller"))
            yield
        finally:
            process.terminate()


def _wait_for(log: Path, words: str) -> None:
    deadline = time.monotonic() + 60
    while words not in log.read_text():
        if time.monotonic() > deadline:
            raise SystemExit(f"{words!r} is not in {log}: {log.read_text()[-800:]}")
        time.sleep(0.1)


def print_result(line: dict[str, object]) -> int:
    """The last line of a benchmark; gives the exit code."""
    print(json.dumps(line))
    return 0 if line["met"] else 1
