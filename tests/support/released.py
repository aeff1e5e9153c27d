"""A home with two versions of one model, and its controllers as processes to be killed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.ledger.ledger import open_ledger
from registry.release.release import is_at_rest
from tests.support.endpoint_system import MODEL, Home, home_with
from tests.support.journey import Checkout
from tests.support.tiny import make_tiny_package, tiny_manifest
from tests.support.waiting import SECONDS_AT_MOST, wait_until


def make_home(base: Path, package: Path, root: Path) -> Home:
    """Both versions packed, nothing released."""
    other = root / "packages" / "2"
    make_tiny_package(base, tiny_manifest(base, root / "scratch"), other, seed=2)
    return home_with(root / "home", {"1": package, "2": other}, base)


def checkout_of(home: Home, cloned: Path) -> Checkout:
    """Where `assay` is typed for that home."""
    return Checkout(
        cloned,
        {"ASSAY_HOME": str(home.path), "OMP_NUM_THREADS": "1"},
    )


@dataclass(frozen=True)
class Controller:
    """A controller as a process, and what it has said."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def says(self, words: str, seconds: float = SECONDS_AT_MOST) -> None:
        """Wait until it has said them."""
        wait_until(
            lambda: (
                words in self.log.read_text(encoding="utf-8")
                or self.process.poll() is not None
            ),
            seconds,
            self.log.read_text,
        )
        assert words in self.log.read_text(encoding="utf-8"), self.log.read_text(
            encoding="utf-8"
        )


@contextmanager
def controller(checkout: Checkout) -> Iterator[Controller]:
    """`python -m operations.controller` for the checkout's home.

    There is neither a Prefect nor an MLflow server.
    """
    home = Path(checkout.environment["ASSAY_HOME"])
    log = home / f"controller-{time.monotonic_ns()}.log"
    environment = {
        **os.environ,
        **checkout.environment,
        "ASSAY_RUN_PID": str(os.getpid()),
    }
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "operations.controller", "--every", "0.2"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=checkout.root, env=environment, stdout=stream, stderr=stream
        )
    try:
        yield Controller(process, log)
    finally:
        process.kill()
        process.wait()


def at_rest(home: Home) -> bool:
    """Nothing is on its way."""
    return is_at_rest(home.ledger_state.model(MODEL))


def kinds(home: Home, after: int = 0) -> list[str]:
    """Of the entries behind that generation."""
    return [entry.body.kind for entry in open_ledger(home.path).entries(after)]
