"""What goes to standard output holds no secret, and a JSON line stays JSON."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.console import say, say_json, spell_out

WITH_LOGIN = 'see "ftp://kim:secret99@host" now'


def test_a_line_has_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    say(WITH_LOGIN)
    assert "secret99" not in capsys.readouterr().out


def test_a_terminal_obeys_nothing_that_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("a\x1b[2J\rb\x9b1m\u202ec\nd\te é 漢 🙂")
    line = capsys.readouterr().out
    assert line == "a\\u001b[2J\\u000db\\u009b1m\\u202ec\nd\te é 漢 🙂\n"
    assert spell_out("\x07\x7f\u2066") == "\\u0007\\u007f\\u2066"


def test_a_json_line_has_no_secret_and_stays_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_json({"reasons": [WITH_LOGIN], "n": 1.5, "is_ok": True, "none": None})
    line = capsys.readouterr().out
    assert "secret99" not in line
    document = json.loads(line)
    assert document["reasons"][0].startswith('see "ftp://')
    assert (document["n"], document["is_ok"], document["none"]) == (1.5, True, None)


@pytest.mark.parametrize(
    "module",
    ["serving.__main__", "flows.schedule.prefect_server", "serving.endpoint.__main__"],
)
def test_a_folder_with_packages_of_our_names_is_not_taken_for_ours(
    tmp_path: Path, module: str
) -> None:
    from core.children import OWN_MODULE

    for name in ("core", "cli", "serving", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    script = "import importlib, sys; importlib.import_module(sys.argv[1])"
    command = [*OWN_MODULE[:-1], "-c", script, module]
    process = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    shadowed = subprocess.run(
        [sys.executable, "-c", script, module],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "not ours" in shadowed.stderr, "the folder does stand in the way"
