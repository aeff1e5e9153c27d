"""`python -m serving` as a process.

One line when it is ready, one line when it cannot be, and a clean end.
"""

import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.listen import open_socket
from tests.support.openai_client import openai_client
from tests.support.processes import refusal_of
from tests.support.running_engine import Served
from tests.support.waiting import SECONDS_AT_MOST

ROOT = Path(__file__).parents[2]


def command(served: Served, *options: str) -> list[str]:
    folders = [
        "--base-folder",
        str(served.base_folder),
        "--base-manifest",
        str(served.base_manifest),
    ]
    return [sys.executable, "-m", "serving", *folders, *options]


def refused(served: Served, *options: str) -> str:
    """The one line that it leaves on stderr."""
    return refusal_of(command(served, *options))


@contextmanager
def started(
    served: Served, *options: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The process and its ready line."""
    process = subprocess.Popen(
        command(served, *options),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_it_says_in_one_line_what_it_serves_and_ends_a_stream_before_it_ends_itself(
    served: Served,
) -> None:
    with started(
        served,
        "--package",
        str(served.package),
        "--model-name",
        "cheat-1",
        "--port",
        "0",
    ) as (process, line):
        found = re.fullmatch(
            r"Ready: cheat-1 \(fp_\w+\) and tiny \(fp_\w+\) at (http://127\.0\.0\.1:\d+/v1)\n",
            line,
        )
        assert found, line
        client = openai_client(found[1])
        stream = client.chat.completions.create(
            model="cheat-1",
            messages=[{"role": "user", "content": "x"}],
            max_tokens=150,
            stream=True,
        )
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert list(stream)[-1].choices[0].finish_reason == "length"
        out, err = process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 0
    assert out == ""
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_named_before_anything_is_loaded(
    served: Served,
) -> None:
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert f"Port {port} on 127.0.0.1 is taken" in refused(
            served, "--port", str(port)
        )


def test_an_address_that_is_not_here_is_named(served: Served) -> None:
    assert "Cannot listen on 203.0.113.1" in refused(
        served, "--host", "203.0.113.1", "--port", "0"
    )
    assert "port 99999" in refused(served, "--port", "99999")


def test_a_package_with_code_in_it_is_not_served(
    served: Served, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(served.package, tmp_path / "package"))
    (package / "hook.py").write_text("raise SystemExit")
    assert "hook.py" in refused(served, "--package", str(package), "--port", "0")


def test_an_adapter_cannot_take_the_bases_name_nor_one_that_is_a_path(
    served: Served,
) -> None:
    for name in ("tiny", "../x"):
        assert "--model-name" in refused(
            served,
            "--package",
            str(served.package),
            "--model-name",
            name,
            "--port",
            "0",
        )


def test_a_manifest_that_does_not_exist_is_named(
    served: Served, tmp_path: Path
) -> None:
    other = Served(
        served.base_folder, tmp_path / "none.json", served.base, served.package
    )
    assert "none.json does not exist" in refused(other, "--port", "0")


def test_it_listens_on_this_machine_only_unless_told_otherwise() -> None:
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.2", port), timeout=2)
