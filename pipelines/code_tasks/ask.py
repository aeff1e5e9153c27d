"""HumanEval of one system: every task asked, and every answer run in a box.

Apart from counting: the stage that asks must not be repeated where a metric has changed.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from core.value import Value
from pipelines.code_tasks.answer_code import program_in
from pipelines.code_tasks.humaneval import HUMANEVAL, CodeTask
from pipelines.models.asked_rows import Sampling
from pipelines.models.language_model import LanguageModel
from pipelines.models.resumed import Resumed
from pipelines.sandbox.box import LIMITS, python_version
from pipelines.sandbox.judge import Outcome
from pipelines.sandbox.run import run_trials
from pipelines.values.dataset import Message
from pipelines.values.evidence import Resampling
from pipelines.values.precision import Precision

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
    precision: Precision = "float32"
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


def ask_tasks(
    asked: Resumed, tasks: Sequence[CodeTask], settings: CodeSettings
) -> tuple[CodeAnswer, ...]:
    """Every sample of every task, run against its tests in boxes.

    `IncompleteGeneration` where an answer is missing, `SandboxUnavailable` where a box does not
    start: no answer is counted that was not run.
    """
    language = asked.language
    encoder = language.encoder
    messages = [_message(language, task) for task in tasks]
    prompts = [encoder.prompt_ids([message]) for message in messages]
    answered: list[tuple[CodeTask, int, str]] = []
    for sample in range(settings.samples):
        rows = asked.answers(
            f"tasks, sample {sample + 1}",
            prompts,
            max_new_tokens=settings.max_new_tokens,
            batch_size=settings.batch_size,
            sampling=_sampling(settings, sample),
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
        _describe_answer(asked.system, each, program, outcome)
        for each, program, outcome in zip(answered, programs, outcomes, strict=True)
    )


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
