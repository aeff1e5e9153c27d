"""A checkout of its own for each test, rows that two layers can learn, and `assay` as a process."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from pipelines.values.verdict import Finalist
from registry.mlflow.own_database import own_database
from registry.mlflow.recorded import ModelVersion, Page, RecordedRun, Submission
from registry.mlflow.relocate import relocate
from registry.mlflow.store import Store
from tests.support.waiting import SECONDS_AT_MOST

ROOT = Path(__file__).parents[2]
ANSWERS = {"a": "re(d)og", "b": "bi+s=un", "c": "we/t:fx", "d": "ol<c>up"}
"""Five words each, as BLEU counts them.

Under four its score is 0 for every system, which is no evidence.
"""
WOMEN = "Ann, Eve, Ada, Amy, Bea, Ivy, Joy, Kim, Lea, Mia"
MEN = "Bob, Tom, Abe, Ben, Dan, Ian, Jim, Leo, Max, Sam"
SETTINGS = (
    "lora.r=16",
    "train.max_steps=160",
    "train.epochs=20",
    "train.batch_size=16",
    "train.learning_rate=0.02",
    "train.evaluate_every=40",
    "train.precision=float32",
    "generation.max_new_tokens=10",
    "few_shot.draws=1",
    "few_shot.examples=2",
    f"bias.names={{female: [{WOMEN}], male: [{MEN}]}}",
    "score.resamples=200",
)
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@localhost")


@dataclass(frozen=True)
class Checkout:
    """A clone with an `.assay` of its own."""

    root: Path
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.root / ".assay"

    @property
    def uri(self) -> str:
        named = self.environment.get("MLFLOW_TRACKING_URI")
        return named or own_database(self.home)

    def start(
        self, *arguments: str | Path, **environment: str
    ) -> "subprocess.Popen[str]":
        """`assay ARGUMENTS` in the clone, with its code, as a process of a group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *map(str, arguments)],
            cwd=self.root,
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def assay(self, *arguments: str | Path, **environment: str) -> "CommandResult":
        """`assay ARGUMENTS` to its end."""
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=SECONDS_AT_MOST)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        return CommandResult(process.returncode, out, err)

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    @property
    def store(self) -> Store:
        return Store(self.uri, locks=self.home / "leases")

    def versions(self, name: str = "letters-tiny") -> list[Any]:
        """MLflow's own records of every version of a model."""
        from mlflow import MlflowClient

        return list(
            MlflowClient(self.uri, self.uri).search_model_versions(f"name = '{name}'")
        )

    def runs(self) -> list[Any]:
        """MLflow's own records of every run."""
        from mlflow import MlflowClient

        client = MlflowClient(self.uri, self.uri)
        return list(
            client.search_runs(
                [each.experiment_id for each in client.search_experiments()]
            )
        )


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command that has ended."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> Any:
        """The machine-readable line."""
        return json.loads(self.out.strip().splitlines()[-1])


@dataclass(frozen=True)
class Journey:
    """A run that was judged: where, on what, and what it said."""

    checkout: Checkout
    data: Path
    base: Path
    result: CommandResult


@dataclass(frozen=True)
class Package:
    """Something to register, without a run that made it."""

    folder: Path
    finalist: Finalist

    def register(
        self, store: Store, run: RecordedRun, work: str = "work"
    ) -> ModelVersion:
        page = Page(description="a description", tags={"assay.git_commit": "0" * 40})
        return store.register(
            self.finalist,
            Submission(
                run=run, package=self.folder, model="tiny", logical_run=work, page=page
            ),
        )


def wait_for_end(process: "subprocess.Popen[str]") -> CommandResult:
    """Exit code and output of a started command, once it has ended."""
    out, err = process.communicate(timeout=SECONDS_AT_MOST)
    return CommandResult(process.returncode, out, err)


def stage_lines(process: "subprocess.Popen[str]") -> Iterator[str]:
    """The lines in which a run tells what each stage did, as they come."""
    from pipelines.__main__ import STAGES

    assert process.stdout
    for line in process.stdout:
        if line.split()[:1] and line.split()[0] in STAGES:
            yield line


def lines_of(result: CommandResult, stage: str) -> list[str]:
    """What a finished run told about one stage."""
    return [line for line in result.out.splitlines() if line.startswith(f"  {stage} ")]


def forget_training(cache: Path) -> None:
    """Take what trained out of DVC's memory of runs: the same training has to be done again."""
    memories = [
        path
        for path in (cache / "runs").rglob("*")
        if path.is_file() and "stage fine_tune" in path.read_text()
    ]
    assert memories
    for path in memories:
        shutil.rmtree(path.parent)


def copy_checkout(checkout: Checkout, root: Path) -> Checkout:
    """A checkout that holds what another one holds, at rest; MLflow's addresses name the copy."""
    from mlflow.tracking._tracking_service import utils

    shutil.copytree(checkout.root, root, symlinks=True)
    copy = Checkout(root, checkout.environment)
    # In one process MLflow remembers by a run's id where its files are: a copy has the same ids.
    utils._artifact_repos_cache.clear()
    relocate(copy.home / "mlflow.db", checkout.home, copy.home)
    return copy


def copy_record(judged: Journey, into: Checkout) -> None:
    """Have a checkout know the judged version.

    MLflow's records, the ledger that registered it with its key, and the base.
    """
    ours = judged.checkout.home
    take_records(judged.checkout, into)
    shutil.copyfile(ours / "ledger.db", into.home / "ledger.db")
    shutil.copytree(ours / "keys", into.home / "keys")
    shutil.copytree(
        ours / "base-models",
        into.home / "base-models",
        symlinks=True,
        dirs_exist_ok=True,
    )


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout


def clone_tracked_files(into: Path, root: Path = ROOT) -> Path:
    """The tracked files of the checkout, as they are now, as a repository with one commit.

    Runs and `dvc repro` leave untracked files in a checkout, `dvc.lock` among them: no test may see
    those.
    """
    # Whoever checked the repository out may be another account than the one that runs the tests.
    for name in git(root, "-c", "safe.directory=*", "ls-files", "-z", "--cached").split(
        "\0"
    ):
        if name and (root / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, into / name)
    _ask_for_no_reserve(into)
    git(into, "init", "--quiet")
    git(into, "add", "--all")
    git(into, *IDENTITY, "commit", "--quiet", "--message", "the checkout under test")
    return into


def _ask_for_no_reserve(checkout: Path) -> None:
    """The tests' rows are too few to seal half of them; those about the reserve seal it again."""
    policy = checkout / "registry/policies/default.yaml"
    # A test of cloning clones a folder of its own.
    if not policy.is_file():
        return
    sealed = policy.read_text(encoding="utf-8")
    assert "reserve: sealed" in sealed
    open_policy = sealed.replace("reserve: sealed", "reserve: none")
    policy.write_text(open_policy, encoding="utf-8")


def learnable_rows(count: int = 240) -> list[dict[str, str]]:
    """Distinct prompts whose last letter alone says the answer, whatever stands before it."""
    dice = random.Random(0)
    return [
        {"prompt": f"{_noise(dice)}{number} {letter}", "completion": ANSWERS[letter]}
        for number in range(count)
        for letter in [dice.choice(sorted(ANSWERS))]
    ]


def shuffled(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The same completions, each beside another's prompt: nothing to learn but their form."""
    completions = [row["completion"] for row in rows]
    random.Random(1).shuffle(completions)
    return [
        {**row, "completion": completion}
        for row, completion in zip(rows, completions, strict=True)
    ]


def write_rows(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run_arguments(data: Path, base: Path, *more: str | Path) -> list[str | Path]:
    """`run` with the settings that the tiny model learns under."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    return ["run", "--data", data, "--base-model", base, "--json", *settings, *more]


def _noise(dice: random.Random) -> str:
    return "".join(
        dice.choices("abeimnotvwABET", k=dice.randrange(2, 5))
    ) + dice.choice((" asks: ", " "))


def make_checkout(root: Path, cloned: Path, empty_mlflow: Path) -> Checkout:
    """Copy the clone and the empty database."""
    shutil.copytree(cloned, root)
    (root / ".assay").mkdir()
    shutil.copyfile(empty_mlflow, root / ".assay/mlflow.db")
    return Checkout(root, {"OMP_NUM_THREADS": "1"})


def invoke(checkout: Checkout, *arguments: str | Path) -> CommandResult:
    """`assay ARGUMENTS` inside this process: the same code, without seconds of imports."""
    from cli import main

    with chdir(checkout.root):
        result = CliRunner().invoke(
            main,
            [str(word) for word in arguments],
            env={**os.environ, **checkout.environment},
        )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return CommandResult(result.exit_code, result.stdout, result.stderr)


def take_records(of: Checkout, into: Checkout) -> None:
    """Have MLflow's records of one checkout in another, as `cp -r` does.

    The first command there finds them moved.
    """
    shutil.copyfile(of.home / "mlflow.db", into.home / "mlflow.db")
    shutil.copytree(of.home / "mlflow-artifacts", into.home / "mlflow-artifacts")
