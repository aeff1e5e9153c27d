"""What the flow adds to its stages, and what an unchanged run costs.

    python -m benchmarks.flow [--short]

The peer is the same stages, run bare by `python -m pipelines STAGE` in a folder of their own.
Goals: the flow takes at most 1.05 times as long plus 30 s; the same run again takes at most 15 s
after start-up. `--short` uses a two-layer model on generated rows.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipelines.__main__ import STAGES

ROOT = Path(__file__).resolve().parents[1]
FACTOR, ALLOWANCE, UNCHANGED = 1.05, 30.0, 15.0
_START_UP = """
from pathlib import Path
from core.environment import set_library_environment
set_library_environment()
from flows.schedule.prefect_server import prefect_server
with prefect_server(Path("{home}")):
    import flows.train
"""


@dataclass(frozen=True)
class Setting:
    """A checkout of its own, and what a run is asked for."""

    checkout: Path
    home: Path
    options: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """This interpreter first, everything else kept in `home`."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        quiet = {
            "HF_HUB_OFFLINE": "1",
            "GX_ANALYTICS_ENABLED": "false",
            "DVC_NO_ANALYTICS": "1",
            "TQDM_DISABLE": "1",
        }
        return {**os.environ, **quiet, "PATH": path, "ASSAY_HOME": str(self.home)}


def main(arguments: list[str]) -> int:
    """Measure, print one JSON line last, and fail where a goal is missed."""
    short = "--short" in arguments
    with tempfile.TemporaryDirectory(prefix="assay-benchmark-") as scratch:
        setting = _prepare(Path(scratch), short=short)
        start_up = _timed(
            setting, [sys.executable, "-c", _START_UP.format(home=setting.home)]
        )
        bare = _bare(setting)
        flow = _timed(setting, [sys.executable, "-m", "cli", "run", *setting.options])
        again = _timed(setting, [sys.executable, "-m", "cli", "run", *setting.options])
    overhead = (flow - ALLOWANCE) / bare
    runs = {
        "bare_s": bare,
        "flow_s": flow,
        "unchanged_s": again,
        "start_up_s": start_up,
        "unchanged_after_start_up_s": again - start_up,
    }
    met = overhead <= FACTOR and again - start_up <= UNCHANGED
    line = {
        "name": "flow",
        "value": round(overhead, 3),
        "unit": "(flow - 30 s) / bare stages",
        "goal": f"<= {FACTOR}",
        "met": met,
    }
    goal = {
        "peer": "python -m pipelines STAGE",
        "runs": {name: round(seconds, 1) for name, seconds in runs.items()},
    }
    print(json.dumps({**line, **goal}))
    return 0 if met else 1


def _prepare(scratch: Path, *, short: bool) -> Setting:
    checkout = scratch / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True)
    home = scratch / "home"
    if not short:
        base = ROOT / ".assay" / "downloads"
        if base.is_dir():
            shutil.copytree(base, home / "downloads")
        return Setting(checkout, home, ())
    return Setting(checkout, home, _tiny_options(scratch))


def _tiny_options(scratch: Path) -> tuple[str, ...]:
    """A generated task on a two-layer model, long enough to be timed, in five minutes."""
    from tests.support.tiny import make_tiny_base

    base = make_tiny_base(scratch / "tiny")
    rows = scratch / "rows.jsonl"
    lines = [
        {
            "prompt": f"say {number:04d} twice",
            "completion": f"{number:04d} {number:04d}",
        }
        for number in range(1200)
    ]
    rows.write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    settings = (
        "train.max_steps=150",
        "generation.max_new_tokens=12",
        "few_shot.examples=2",
        "train.evaluate_every=50",
    )
    return (
        "--data",
        str(rows),
        "--base-model",
        str(base),
        *(part for setting in settings for part in ("--set", setting)),
    )


def _bare(setting: Setting) -> float:
    """The same stages by hand, in a worktree with the same inputs and overrides."""
    from core.project import find_project
    from flows.run.workspace import open_workspace
    from flows.start import request_from

    asked = _asked(setting.options)
    os.environ["ASSAY_HOME"] = str(setting.home)
    request = request_from(**asked)
    environment = {
        **setting.environment(),
        "ASSAY_HOME": str(setting.home.with_name("bare")),
    }
    _timed_in(
        setting.checkout,
        environment,
        [sys.executable, "-c", "import torch, trl, peft, great_expectations"],
    )  # files into memory
    with open_workspace(
        find_project(setting.home, setting.checkout), request
    ) as workspace:
        total = 0.0
        for stage in STAGES:
            total += _timed_in(
                workspace.root,
                environment,
                [sys.executable, "-P", "-m", "pipelines", stage],
            )
    return total


def _asked(options: tuple[str, ...]) -> dict[str, object]:
    pairs = [
        (options[place].removeprefix("--").replace("-", "_"), options[place + 1])
        for place in range(0, len(options), 2)
    ]
    asked: dict[str, object] = {
        name: Path(value) for name, value in pairs if name != "set"
    }
    return {**asked, "settings": tuple(value for name, value in pairs if name == "set")}


def _timed(setting: Setting, command: list[str]) -> float:
    return _timed_in(setting.checkout, setting.environment(), command)


def _timed_in(folder: Path, environment: dict[str, str], command: list[str]) -> float:
    """Wall seconds. A verdict other than a pass (3, 4) is a result here too; an error is not."""
    started = time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 3, 4}:
        raise SystemExit(
            f"{' '.join(command[:5])} ended with {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()[-600:]}"
        )
    return time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
