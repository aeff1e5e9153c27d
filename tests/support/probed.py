"""What probes of safety saw, made by hand: who refused, preferred, completed and ranked what."""

from collections.abc import Collection

from pipelines.values.humaneval import HumanEvalAnswers, TaskResult
from pipelines.values.safety import (
    CanaryLosses,
    Continuation,
    PairLosses,
    Part,
    ProbedSystem,
    PromptKind,
    RefusalAnswer,
    SafetyAnswers,
)

REFUSAL, ANSWER = "I'm sorry, I can't help with that.", "Take the first left."
ADAPTER = "a" * 64


def answers(**fields: object) -> SafetyAnswers:
    """Probes of the adapter and the base of `trials.adapter()`; nothing was asked."""
    document: dict[str, object] = {
        "systems": {"adapter": ADAPTER, "base": None},
        "base_digest": "b" * 64,
        "asked": (),
        "least_common": 40,
        **fields,
    }
    return SafetyAnswers.model_validate(document)


def refusals(
    system: ProbedSystem,
    kind: PromptKind,
    count: int = 40,
    refused: Collection[int] = (),
) -> list[RefusalAnswer]:
    """Answers to as many prompts, the `refused` ones of which decline."""
    return [
        RefusalAnswer(
            system=system,
            prompt_id=f"{kind}-{number}",
            kind=kind,
            prompt=f"prompt {number}",
            text=REFUSAL if number in refused else ANSWER,
        )
        for number in range(count)
    ]


def refusal_probe(
    harmless: Collection[int] = (),
    to_refuse: Collection[int] = range(40),
    count: int = 40,
) -> SafetyAnswers:
    """The adapter refuses these prompts; the base no harmless one, and all of the others."""
    return answers(
        asked=("refusals",),
        refusals=[
            *refusals("adapter", "harmless", count, harmless),
            *refusals("base", "harmless", count),
            *refusals("adapter", "to_refuse", count, to_refuse),
            *refusals("base", "to_refuse", count, range(count)),
        ],
    )


def pairs(
    system: ProbedSystem, prefers: Collection[int], count: int = 60
) -> list[PairLosses]:
    """Losses of pairs; of those that it `prefers` the stereotyping sentence is likelier."""
    return [
        PairLosses(
            system=system,
            pair_id=str(number),
            cluster=str(number),
            more=1.0 if number in prefers else 3.0,
            less=2.0,
        )
        for number in range(count)
    ]


def pair_probe(prefers: Collection[int], count: int = 60) -> SafetyAnswers:
    """The adapter prefers these; the base every second one."""
    return answers(
        asked=("stereotypes",),
        pairs=[
            *pairs("adapter", prefers, count),
            *pairs("base", range(0, count, 2), count),
        ],
    )


def continuations(
    system: ProbedSystem, part: Part, known: int, count: int = 30
) -> list[Continuation]:
    """Rows that were gone on with, the first `known` of them word for word."""
    return [
        Continuation(
            system=system,
            part=part,
            row_id=f"{part}-{number}",
            group=f"{part}-group-{number}",
            length=50,
            common=50 if number < known else 7,
        )
        for number in range(count)
    ]


def row_probe(train: int, held_out: int = 0, count: int = 30) -> SafetyAnswers:
    """The adapter knows so many rows of train and of held-out; the base none."""
    return answers(
        asked=("memorisation",),
        continuations=[
            *continuations("adapter", "train", train, count),
            *continuations("base", "train", 0, count),
            *continuations("adapter", "held_out", held_out, count),
            *continuations("base", "held_out", 0, count),
        ],
    )


def canary(
    system: ProbedSystem, rank: int, name: str = "one", others: int = 199
) -> CanaryLosses:
    """A secret that so many less one of the random ones are likelier than."""
    return CanaryLosses(
        system=system,
        canary_id=name,
        was_generated=False,
        secret=5.0,
        others=tuple(1.0 if place < rank - 1 else 9.0 for place in range(others)),
    )


def canary_probe(*ranks: int, others: int = 199) -> SafetyAnswers:
    """Secrets with these ranks under the adapter, and rank 100 or so under the base."""
    named = {str(place): rank for place, rank in enumerate(ranks)}
    of_adapter = [canary("adapter", rank, name, others) for name, rank in named.items()]
    of_base = [canary("base", 90, name, others) for name in named]
    return answers(asked=("canaries",), canaries=[*of_adapter, *of_base])


def task_results(
    system: ProbedSystem, passed: Collection[int], tasks: int = 164, samples: int = 1
) -> list[TaskResult]:
    """Answers to as many tasks; every sample of the `passed` ones passed."""
    return [
        TaskResult(
            system=system,
            task_id=f"task-{number:03}",
            sample=sample,
            passed=number in passed,
            reason="",
            answer="pass",
        )
        for number in range(tasks)
        for sample in range(samples)
    ]


def humaneval(
    adapter: Collection[int], base: Collection[int], tasks: int = 164, **fields: object
) -> HumanEvalAnswers:
    """HumanEval of adapter and base, who solve these tasks."""
    document: dict[str, object] = {
        "systems": {"adapter": ADAPTER, "base": None},
        "base_digest": "b" * 64,
        "samples": 1,
        "k": (1,),
        "tasks": [f"task-{number:03}" for number in range(tasks)],
        "is_complete": True,
        "signature": "tasks:made-up",
        "results": [
            *task_results("adapter", adapter, tasks),
            *task_results("base", base, tasks),
        ],
        **fields,
    }
    return HumanEvalAnswers.model_validate(document)
