"""What has to hold before an answer is believed to fail: controls with known outcomes."""

from collections.abc import Sequence

from core.errors import SandboxUnavailable
from pipelines.code_tasks.humaneval import CodeTask
from pipelines.sandbox.run import run_trials
from pipelines.sandbox.self_check import check_sandbox


def check_controls(tasks: Sequence[CodeTask]) -> str:
    """Have every reference pass and every empty function fail, and say so.

    `SandboxUnavailable` where boxes do not hold here, or where one control comes out otherwise.
    """
    # First: a box that does not hold would run what a model wrote on this machine.
    check_sandbox()
    passing = run_trials([task.trial(task.reference) for task in tasks])
    # A prompt alone is a function that gives nothing.
    failing = run_trials([task.trial(task.prompt) for task in tasks])
    for task, positive, negative in zip(tasks, passing, failing, strict=True):
        if not positive.passed:
            raise SandboxUnavailable(
                f"The reference of {task.task_id} fails its own tests here "
                f"({positive.reason}), so answers are not scored. "
                "Run on a less busy machine, or with another python3 in /usr/bin."
            )
        if negative.passed:
            raise SandboxUnavailable(
                f"An empty function passes the tests of {task.task_id} here, "
                "so answers are not scored. Say so to Assay's authors."
            )
    count = len(tasks)
    return f"{count} of {count} references pass, 0 of {count} empty functions"
