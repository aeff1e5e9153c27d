"""One box: a process under bubblewrap, which sees /usr, a small /tmp and nothing else.

In namespaces of its own (no network, no other process, no other user), without capabilities and
without `/proc`, as an account that nobody has, behind a filter of system calls.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from core.errors import SandboxUnavailable
from core.value import Value
from pipelines.sandbox import boxed
from pipelines.sandbox.system_calls import filter_program

_MEGABYTE = 1024 * 1024
_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Below /usr, which every box sees; another account may not reach one in a person's home."""
_NOBODYS = range(2**30, 2**30 + 2**20)
"""Numbers of accounts that no system gives away."""
_SECONDS_TO_END = 0.3


class Limits(Value):
    """What a box may take; the wall clock is for both boxes together."""

    seconds: float = 10.0
    memory_mb: int = 512
    disk_mb: int = 16
    processes: int = 16
    files: int = 32

    @property
    def of_kernel(self) -> dict[str, int]:
        """By the kernel's names, which `boxed` sets before anything else."""
        return {
            "AS": self.memory_mb * _MEGABYTE,
            # Of a whole box: each has a user namespace of its own, where it is counted.
            "NPROC": self.processes,
            "NOFILE": self.files,
            "FSIZE": self.disk_mb * _MEGABYTE,
            # Whole seconds, rounded up: the wall clock is what ends a trial first.
            "CPU": int(self.seconds) + 1,
            # A core file would be a second way to fill the disk.
            "CORE": 0,
        }


LIMITS = Limits()


@dataclass(frozen=True)
class Box:
    """A started box, and where bubblewrap says why it did not start."""

    process: "subprocess.Popen[bytes]"
    said: IO[bytes]

    def end(self) -> str:
        """End it with every process in it, and give what bubblewrap said."""
        # By itself, where it will: then no process is left for init to collect.
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=_SECONDS_TO_END)
        # Its first process dies with bubblewrap, and the namespace with its first process.
        self.process.kill()
        self.process.wait()
        self.said.seek(0)
        words = self.said.read(2000).decode(errors="replace").split()
        self.said.close()
        return " ".join(words)


def start_box(
    side: str, request: dict[str, object], limits: Limits, fds: Sequence[int]
) -> Box:
    """Start one side of `boxed` with these descriptors, and no other.

    `SandboxUnavailable` where there is no bubblewrap, or the system does not start it.
    """
    document = {**request, "limits": limits.of_kernel}
    program = [find_python(), "-I", "-S", "-c", _boxed_text(), side]
    program += [str(fd) for fd in fds]
    account = _choose_account()
    with (
        _file_of(json.dumps(document).encode()) as asked,
        _file_of(filter_program()) as calls,
    ):
        number = calls.fileno()
        words = [*_bubblewrap(number, limits.disk_mb), "--", *program]
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by Box.end
        try:
            process = subprocess.Popen(
                words,
                stdin=asked,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env={},
                cwd="/",
                pass_fds=(*fds, number),
                # Ctrl-C reaches Assay, which ends its boxes.
                start_new_session=True,
                user=account,
                group=account,
                extra_groups=None if account is None else (),
            )
        except (OSError, subprocess.SubprocessError) as error:
            said.close()
            raise SandboxUnavailable(
                f"bubblewrap does not start here ({error}). "
                "Run on a machine where it does."
            ) from error
    return Box(process, said)


@cache
def find_python() -> str:
    """The interpreter that boxes run; `SandboxUnavailable` where /usr has none."""
    # Not the one that runs Assay: its folder is not seen in a box.
    for path in _PYTHONS:
        if Path(path).exists():
            return path
    raise SandboxUnavailable(
        "There is no python3 in /usr/bin or /usr/local/bin, and a box sees nothing else. "
        "Install python3."
    )


@cache
def python_version() -> str:
    """The version of that interpreter, which decides what passes, as `3.11`."""
    command = [find_python(), "-I", "-S", "-V"]
    process = subprocess.run(
        command,
        capture_output=True,
        check=True,
        env={},
    )
    said = process.stdout.decode()
    _, version = said.split()
    # Its corrections change no result.
    major, minor, _ = version.split(".", 2)
    return f"{major}.{minor}"


@cache
def find_bubblewrap() -> str:
    """Where bubblewrap is; `SandboxUnavailable` where it is not."""
    # Fixed folders: a PATH can hold a program of that name that shuts nothing in.
    found = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin")
    if found is None:
        raise SandboxUnavailable(
            "There is no bubblewrap (bwrap) here, and code of a model is not run without it. "
            "Install it: apt-get install bubblewrap."
        )
    return found


@cache
def _boxed_text() -> str:
    file = boxed.__file__
    path = Path(file)
    return path.read_text(encoding="utf-8")


def _file_of(content: bytes) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by its user
    file.write(content)
    file.seek(0)
    return file


def _choose_account() -> int | None:
    """For root, the number of an account that nobody has; None: the account that Assay runs under.

    The kernel counts no processes of root's, whatever user a namespace shows.
    """
    if os.geteuid() != 0:
        return None
    # Drawn anew: boxes that run at once under one number would share its processes.
    return random.SystemRandom().choice(_NOBODYS)


def _bubblewrap(calls: int, disk_mb: int) -> list[str]:
    # Of memory: the only folder that can be written is none of a disk.
    size = disk_mb * _MEGABYTE
    return [
        find_bubblewrap(),
        "--unshare-all",
        "--unshare-user",
        # No second user namespace, which is where most ways out of a box began.
        "--disable-userns",
        "--die-with-parent",
        "--new-session",
        *("--uid", "65534"),
        *("--gid", "65534"),
        *("--hostname", "box"),
        *("--cap-drop", "ALL"),
        "--clearenv",
        *("--setenv", "LANG", "C.UTF-8"),
        *("--setenv", "PATH", "/usr/bin"),
        *("--ro-bind", "/usr", "/usr"),
        *_linked("bin"),
        *_linked("lib"),
        *_linked("lib64"),
        *_device("null"),
        *_device("zero"),
        *_device("urandom"),
        *("--size", str(size)),
        *("--tmpfs", "/tmp"),  # noqa: S108 - the box's own
        # The root is in memory too: a file there would be counted by nobody.
        *("--remount-ro", "/"),
        *("--chdir", "/tmp"),  # noqa: S108
        *("--seccomp", str(calls)),
    ]


def _linked(name: str) -> tuple[str, ...]:
    # Programs name their loader as /lib64/…, and some systems have no such folder.
    if not Path("/usr", name).exists():
        return ()
    return ("--symlink", f"usr/{name}", f"/{name}")


def _device(name: str) -> tuple[str, ...]:
    path = f"/dev/{name}"
    return ("--dev-bind", path, path)
