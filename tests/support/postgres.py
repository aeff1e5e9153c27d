"""A private PostgreSQL for the tests.

A cluster in a temporary folder, on a free port, stopped at the end.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from serving.listen import open_socket
from tests.support.waiting import SECONDS_AT_MOST

_UNSAFE_BUT_QUICK = "fsync=off\nfull_page_writes=off\n"


@dataclass(frozen=True)
class Postgres:
    """A cluster: where it answers, and how it is stopped and started."""

    folder: Path
    port: int

    def url(self, database: str) -> str:
        """As a person writes it into ASSAY_LEDGER_URL."""
        return f"postgresql://assay@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; gives its URL."""
        self.run(
            "createdb",
            "--host=127.0.0.1",
            f"--port={self.port}",
            "--username=assay",
            database,
        )
        return self.url(database)

    def start(self) -> None:
        self.run(
            "pg_ctl",
            "start",
            "--wait",
            "--silent",
            f"--pgdata={self.folder / 'data'}",
            f"--log={self.folder / 'log'}",
        )

    def stop(self) -> None:
        self.run(
            "pg_ctl",
            "stop",
            "--wait",
            "--silent",
            "--mode=immediate",
            f"--pgdata={self.folder / 'data'}",
        )

    def run(self, program: str, *arguments: str) -> None:
        """One of PostgreSQL's own programs, as a user that it accepts."""
        command = [str(_programs() / program), *arguments]
        subprocess.run(
            [*_as_another_user(), *command],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            timeout=SECONDS_AT_MOST,
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running cluster whose superuser is `assay`, without a password, on 127.0.0.1 alone."""
    folder = Path(
        tempfile.mkdtemp(prefix="assay-postgres-")
    )  # pytest's own folders are closed to PostgreSQL's user
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    with open_socket("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    cluster = Postgres(folder, port)
    try:
        cluster.run(
            "initdb",
            f"--pgdata={folder / 'data'}",
            "--username=assay",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        )
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write(
                f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{folder}'\n{_UNSAFE_BUT_QUICK}"
            )
        cluster.start()
        yield cluster
    finally:
        if (folder / "data/postmaster.pid").exists():
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    """The newest PostgreSQL that is installed."""
    programs = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]),
    )
    if not programs:
        raise FileNotFoundError("PostgreSQL is not installed. Run infra/debian.sh.")
    return programs[-1].parent


def _as_another_user() -> tuple[str, ...]:
    """PostgreSQL refuses to run as root."""
    return ("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()
