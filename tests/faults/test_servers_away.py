"""The Prefect server, or MLflow's answers, go away in the middle of a run: nothing is done twice, and the same command ends it."""

import signal
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.faults.test_kills import lines_of, stage_lines
from tests.faults.test_training_stopped import forget_training
from tests.journey import Checkout, Done, Journey, run_arguments

if TYPE_CHECKING:
    import subprocess

SECONDS = 300
OWN_SERVER = {"PREFECT_API_URL": "", "PREFECT_CLIENT_MAX_RETRIES": "1"}
"""A server of the run's own, and a client that gives up within seconds instead of a minute."""


def without_its_server(process: "subprocess.Popen[str]", stage: str) -> Done:
    """Read what the run tells until it has told this stage, kill its Prefect server, and let it end."""
    told = ""
    for line in stage_lines(process):
        told += line
        if line.split()[0] == stage:
            break
    server_of(process).kill()
    out, err = process.communicate(timeout=SECONDS)
    return Done(process.returncode, told + out, err)


def server_of(process: "subprocess.Popen[str]") -> psutil.Process:
    return next(child for child in psutil.Process(process.pid).children() if "flows.prefect_server" in child.cmdline())


def in_one_sentence(done: Done) -> bool:
    """The run said that its server went away, or came to its end without it."""
    told = done.err.strip().splitlines()
    return done.code == 0 or (done.code == 1 and len(told) == 1 and "The Prefect server at" in told[0])


def test_without_its_prefect_server_a_run_says_so_and_the_same_command_ends_it(seeded: Checkout, judged: Journey) -> None:
    arguments = run_arguments(judged.data, judged.base)
    done = without_its_server(seeded.start(*arguments, **OWN_SERVER), "bias")
    assert in_one_sentence(done), done.out + done.err
    again = seeded.assay(*arguments)
    assert again.code == 0, again.out + again.err
    assert (again.last["version"], len(seeded.versions()), len(seeded.runs())) == ("1", 1, 1)


@pytest.mark.slow
def test_a_server_that_goes_away_while_a_model_trains_makes_no_second_training(seeded: Checkout, judged: Journey) -> None:
    forget_training(seeded.home / "cache")
    arguments = run_arguments(judged.data, judged.base)
    done = without_its_server(seeded.start(*arguments, **OWN_SERVER), "admit")
    assert in_one_sentence(done), done.out + done.err
    again = seeded.assay(*arguments)
    assert again.code == 0, again.out + again.err
    trained = [line for told in (done, again) for line in lines_of(told, "fine_tune") if "cached" not in line]
    assert len(trained) == 1, done.out + again.out
    assert len(seeded.versions()) == 1


@pytest.mark.slow
def test_a_server_that_hangs_for_a_while_costs_nothing_but_time(seeded: Checkout, judged: Journey) -> None:
    process = seeded.start(*run_arguments(judged.data, judged.base), PREFECT_API_URL="")
    for line in stage_lines(process):
        if line.split()[0] == "bias":
            break
    server = server_of(process)
    server.send_signal(signal.SIGSTOP)
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(process.pid).wait(timeout=20)
    server.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, out + err
    assert (len(seeded.versions()), len(seeded.runs())) == (1, 1)
