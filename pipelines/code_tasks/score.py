"""HumanEval of one system: asked, run in boxes, and counted with an interval over tasks."""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from core.errors import IncompleteGeneration
from core.progress import progress_bar
from core.value import Value
from pipelines.code_tasks.answer_code import program_in
from pipelines.code_tasks.humaneval import HUMANEVAL, CodeTask
from pipelines.code_tasks.pass_at_k import metric_of_tasks, pass_at_k
from pipelines.metrics import FloatArray
from pipelines.models.language_model import LanguageModel, Sampling, generate
from pipelines.sandbox.box import LIMITS, python_version
from pipelines.sandbox.judge import Outcome
from pipelines.sandbox.run import run_trials
from pipelines.statistics.bootstrap import interval, paired_difference
from pipelines.values.dataset import Interval, Message
from pipelines.values.evidence import Resampling

_INSTRUCTION = (
    "Complete this Python function. "
    "Answer with the whole function in one code block.\n\n```python\n{prompt}```"
)
# The parameters of the instruction above: another text is another benchmark.
_ASKED_AS = {True: "chat-1", False: "continuation"}


class CodeSettings(Value):
    """How tasks are asked and counted."""

    samples: Annotated[int, Field(ge=1, le=1000)] = 1
    k: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    max_new_tokens: Annotated[int, Field(ge=1, le=100_000)] = 512
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 16
    precision: Literal["float32", "bfloat16"] = "float32"
    resamples: Annotated[int, Field(ge=200, le=10**6)] = 2000
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @property
    def resampling(self) -> Resampling:
        """How intervals are drawn."""
        return Resampling(
            resamples=self.resamples,
            seed=self.seed,
        )


class CodeAnswer(Value):
    """One answer to one task, the program in it, and how its tests ended."""

    system: str
    task_id: str
    sample: int
    answer: str
    program: str
    passed: bool
    reason: str


class PassAt(Value):
    """pass@k of one system, 0 to 1."""

    k: int
    interval: Interval


class CodeScore(Value):
    """HumanEval of one system."""

    system: str
    adapter_sha256: str | None
    tasks: int
    samples: int
    pass_at: tuple[PassAt, ...]
    signature: str = Field(description="How it was computed.")


class CodeDifference(Value):
    """How much better one system is than another on the same tasks, with one-sided 95 % bounds."""

    k: int
    system: str
    other: str
    difference: float
    low: float
    high: float


def ask_tasks(
    language: LanguageModel,
    tasks: Sequence[CodeTask],
    settings: CodeSettings,
    system: str,
) -> tuple[CodeAnswer, ...]:
    """Every sample of every task, run against its tests in boxes.

    `IncompleteGeneration` where an answer is missing, `SandboxUnavailable` where a box does not
    start: no answer is counted that was not run.
    """
    encoder = language.encoder
    messages = [_message(language, task) for task in tasks]
    prompts = [encoder.prompt_ids([message]) for message in messages]
    answered: list[tuple[CodeTask, int, str]] = []
    with progress_bar(f"answers, {system}", len(tasks) * settings.samples) as advance:
        for sample in range(settings.samples):
            rows = generate(
                language,
                prompts,
                max_new_tokens=settings.max_new_tokens,
                batch_size=settings.batch_size,
                advance=advance,
                sampling=_sampling(settings, sample),
            )
            # Counted as failed, a missing answer would look like a worse model.
            if len(rows) != len(tasks):
                raise IncompleteGeneration(
                    f"{system} answered {len(rows)} of {len(tasks)} tasks. Run again."
                )
            for task, row in zip(tasks, rows, strict=True):
                text = encoder.decode(row.ids)
                answered.append((task, sample, text))
    # All answers before the first trial: boxes would take processors from the model.
    programs = [program_in(answer, task) for task, _, answer in answered]
    trials = [
        task.trial(program)
        for (task, _, _), program in zip(answered, programs, strict=True)
    ]
    outcomes = run_trials(trials)
    return tuple(
        _describe_answer(system, asked, program, outcome)
        for asked, program, outcome in zip(answered, programs, outcomes, strict=True)
    )


def score_answers(
    answers: Sequence[CodeAnswer],
    settings: CodeSettings,
    *,
    is_chat: bool,
    adapter_sha256: str | None,
) -> CodeScore:
    """pass@k of one system's answers, for each k of the settings."""
    pass_at = []
    for k in settings.k:
        sums = sums_by_task(answers, settings.samples, k)
        found = interval(metric_of_tasks(), sums, settings.resampling)
        pass_at.append(PassAt(k=k, interval=found))
    return CodeScore(
        system=answers[0].system,
        adapter_sha256=adapter_sha256,
        tasks=len(sums),
        samples=settings.samples,
        pass_at=tuple(pass_at),
        signature=sign_settings(settings, is_chat=is_chat),
    )


def compare_answers(
    own: Sequence[CodeAnswer], other: Sequence[CodeAnswer], settings: CodeSettings
) -> tuple[CodeDifference, ...]:
    """How much better `own` is than `other`, for each k."""
    differences = []
    for k in settings.k:
        found = paired_difference(
            metric_of_tasks(),
            sums_by_task(own, settings.samples, k),
            sums_by_task(other, settings.samples, k),
            0.05,
            settings.resampling,
        )
        differences.append(
            CodeDifference(
                k=k,
                system=own[0].system,
                other=other[0].system,
                difference=found.difference,
                low=found.low,
                high=found.high,
            )
        )
    return tuple(differences)


def sums_by_task(answers: Sequence[CodeAnswer], samples: int, k: int) -> FloatArray:
    """Each task's pass@k and a one, shape (tasks, 2), in the order of the tasks' names.

    `IncompleteGeneration` where a task has not as many answers as samples were asked for.
    """
    by_task: dict[str, list[bool]] = {}
    for answer in answers:
        by_task.setdefault(answer.task_id, []).append(answer.passed)
    sums = []
    # Sorted, so that two systems are compared task by task, whatever order they were asked in.
    for name, passed in sorted(by_task.items()):
        if len(passed) != samples:
            raise IncompleteGeneration(
                f"{name} has {len(passed)} of {samples} answers. Run again."
            )
        share = pass_at_k(samples, sum(passed), k)
        # How much a task counts: as much as every other.
        weight = 1.0
        sums.append((share, weight))
    return np.array(sums, dtype=np.float64)


def _message(language: LanguageModel, task: CodeTask) -> Message:
    chat = language.encoder.chat
    content = task.prompt
    # A model without a template completes text: an instruction would be completed too.
    if chat is not None:
        content = _INSTRUCTION.format(
            prompt=task.prompt,
        )
    return Message(role="user", content=content)


def _sampling(settings: CodeSettings, sample: int) -> Sampling | None:
    if settings.temperature == 0:
        return None
    # A seed for each sample: with one for all, each would be the same answer again.
    seed = settings.seed + sample
    return Sampling(settings.temperature, seed)


def _describe_answer(
    system: str, asked: tuple[CodeTask, int, str], program: str, outcome: Outcome
) -> CodeAnswer:
    task, sample, answer = asked
    return CodeAnswer(
        system=system,
        task_id=task.task_id,
        sample=sample,
        answer=answer,
        program=program,
        passed=outcome.passed,
        reason=outcome.reason,
    )


def sign_settings(settings: CodeSettings, *, is_chat: bool) -> str:
    """What was asked and where it ran: scores with other signatures are not comparable."""
    parts = {
        "tasks": f"{HUMANEVAL.name} {HUMANEVAL.version}",
        "asked": _ASKED_AS[is_chat],
        "samples": settings.samples,
        "temperature": settings.temperature,
        "max_new_tokens": settings.max_new_tokens,
        "python": python_version(),
        "seconds": LIMITS.seconds,
        "memory_mb": LIMITS.memory_mb,
    }
    return "|".join(f"{name}:{entry}" for name, entry in parts.items())
