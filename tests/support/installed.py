"""Assay as a person installs it: a wheel in an environment of its own, and no clone."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from core.ready import parse_ready
from tests.support.journey import (
    ROOT,
    SETTINGS,
    CommandResult,
    clone_tracked_files,
    learnable_rows,
    write_rows,
)
from tests.support.openai_client import openai_client
from tests.support.promoted import WAIVED
from tests.support.waiting import SECONDS_AT_MOST
from tests.support.waivers import waive_as_others


@dataclass(frozen=True)
class Installed:
    """An environment with a wheel of Assay, and the libraries of this one."""

    folder: Path

    @property
    def command(self) -> Path:
        return self.folder / "bin/assay"

    def install(self, wheel: Path) -> None:
        python = str(self.folder / "bin/python")
        options = ("--quiet", "--no-deps", "--offline", "--python", python)
        run(Path(sys.executable).with_name("uv"), "pip", "install", *options, wheel)

    def start(
        self, folder: Path, *arguments: str | Path, **environment: str
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self.command, *map(str, arguments)],
            cwd=folder,
            env={**_without_clone(os.environ), "OMP_NUM_THREADS": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def assay(
        self, folder: Path, *arguments: str | Path, **environment: str
    ) -> CommandResult:
        """`assay ARGUMENTS`, typed in a folder, to its end."""
        process = self.start(folder, *arguments, **environment)
        out, err = process.communicate(timeout=SECONDS_AT_MOST)
        return CommandResult(process.returncode, out, err)

    def typed(self, folder: Path, arguments: list[str], answers: list[str]) -> str:
        """What `assay ARGUMENTS` says at a terminal at which these answers are typed."""
        terminal, end = os.openpty()
        with os.fdopen(terminal, "r+b", buffering=0) as keyboard:
            process = subprocess.Popen(
                [self.command, *arguments],
                cwd=folder,
                env=_without_clone(os.environ),
                stdin=end,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            os.close(end)
            keyboard.write("".join(f"{answer}\n" for answer in answers).encode())
            out, _ = process.communicate(timeout=SECONDS_AT_MOST)
        assert process.returncode == 0, out
        return out

    @contextmanager
    def serving(self, folder: Path) -> Iterator[str]:
        """The address of `assay serve` for as long as the context lasts."""
        with self.start(folder, "serve", "--port", "0") as process:
            try:
                assert process.stdout
                line = process.stdout.readline()
                url = parse_ready(line)
                assert url, line + process.communicate()[1]
                yield url
            finally:
                process.terminate()
                process.communicate(timeout=SECONDS_AT_MOST)


def make_environment(folder: Path) -> Installed:
    """An environment with this one's libraries, without its own Assay."""
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    # A folder in a `.pth` file brings libraries, and not the `.pth` files that lie there: the one
    # of the clone under test stays out.
    [site] = (folder / "lib").glob("python*/site-packages")
    libraries = sysconfig.get_path("purelib")
    (site / "zz_libraries.pth").write_text(f"{libraries}\n", encoding="utf-8")
    return Installed(folder)


def build_wheel(into: Path, changes: Mapping[str, tuple[str, str]]) -> Path:
    """A wheel of the code under test, with one text of some files replaced."""
    source = into / "source"
    source.mkdir(parents=True)
    clone_tracked_files(source, ROOT)
    for name, (before, after) in changes.items():
        text = (source / name).read_text(encoding="utf-8")
        assert before in text
        (source / name).write_text(text.replace(before, after, 1), encoding="utf-8")
    uv = Path(sys.executable).with_name("uv")
    run(uv, "build", "--quiet", "--wheel", "--out-dir", into / "dist", source)
    shutil.rmtree(source)
    [wheel] = (into / "dist").glob("*.whl")
    return wheel


def run(*command: str | Path) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SECONDS_AT_MOST
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _without_clone(environment: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the clone: neither its modules nor the environment that it runs in."""
    hidden = {"PYTHONPATH", "VIRTUAL_ENV", "ASSAY_HOME"}
    return {name: text for name, text in environment.items() if name not in hidden}


def begin_project(assay: Installed, folder: Path, base: Path) -> CommandResult:
    """`assay init` in a new folder of somebody whose packages have the names of ours."""
    folder.mkdir()
    rows = write_rows(folder / "letters.jsonl", learnable_rows())
    # Theirs are never imported.
    for name in ("core", "cli", "pipelines", "flows"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit('theirs')\n")
    begun = assay.assay(
        folder, "init", "--data", rows, "--base-model", base, "--model", "letters"
    )
    assert begun.code == 0, begun.out + begun.err
    configure(folder, "letters")
    return begun


def configure(folder: Path, model: str) -> None:
    """Give a model the settings that the tiny base learns under."""
    path = folder / f"models/{model}.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    pairs = (setting.split("=", 1) for setting in SETTINGS)
    document["settings"] = {name: yaml.safe_load(text) for name, text in pairs}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def add_model(folder: Path, base: Path) -> None:
    """A second model, on more rows: a file is all that it takes."""
    rows = write_rows(folder / "more.jsonl", learnable_rows(300))
    document = yaml.safe_load((folder / "models/letters.yaml").read_text())
    document |= {"data": rows.name, "base_model": str(base)}
    (folder / "models/more.yaml").write_text(yaml.safe_dump(document))


def promote(assay: Installed, folder: Path) -> tuple[CommandResult, str]:
    waive_as_others(folder / ".assay", "letters", WAIVED)
    with assay.serving(folder) as url:
        done = assay.assay(folder, "promote", "1", "--reason", "it is better")
        answer = openai_client(url).chat.completions.create(
            model="letters", messages=[{"role": "user", "content": "12 a"}]
        )
    return done, str(answer.choices[0].message.content)
