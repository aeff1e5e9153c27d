"""What is scored together: the held-out prompts, the adapter, and every system's whole set of answers."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from core.errors import DamagedFile, IncompleteGeneration
from core.files import digest_of_json, read_jsonl, sha256_of
from core.value import Value, first_problem
from pipelines.values.dataset import DatasetVersion, Prompt, prompts_of, read_rows
from pipelines.values.evidence import (
    OPTIONAL_COMPARATORS,
    Adapter,
    Completion,
    Completions,
    System,
    TokenLoss,
    Variant,
)

V = TypeVar("V", bound=Value)
DATA = Path("data")
FILES: dict[System, Path] = {
    "base": DATA / "prompt_baselines/base.json",
    "few_shot": DATA / "prompt_baselines/few_shot.json",
    "adapter": DATA / "generate/adapter.json",
    "champion": DATA / "generate/champion.json",
    "anchor": DATA / "generate/anchor.json",
}


class SystemAnswers(Value):
    """One system's answers and the losses of the references under it."""

    completions: Completions
    answers: tuple[Completion, ...]
    losses: tuple[TokenLoss, ...]

    @property
    def system(self) -> System:
        """Whose answers."""
        return self.completions.system


class Trial(Value):
    """Everything that `score` reads."""

    dataset_digest: str
    held_out_sha256: str
    prompts: tuple[Prompt, ...]
    adapter: Adapter
    systems: tuple[SystemAnswers, ...]
    dev_prompts: tuple[Prompt, ...]
    variants: tuple[Variant, ...]

    def answers(self, system: System) -> SystemAnswers:
        """One system's answers, complete: each prompt once, each reference with its loss."""
        found = next(
            (answers for answers in self.systems if answers.system == system), None
        )
        if found is None:
            raise IncompleteGeneration(
                f"There are no answers of {system}. Run `dvc repro generate`."
            )
        _one_for_each(
            f"answers of {system}",
            (prompt.id for prompt in self.prompts),
            (answer.prompt_id for answer in found.answers),
        )
        references = (
            (prompt.id, number)
            for prompt in self.prompts
            for number in range(len(prompt.references))
        )
        _one_for_each(
            f"losses of {system}",
            references,
            ((loss.prompt_id, loss.reference) for loss in found.losses),
        )
        return found


def read_trial() -> Trial:
    """Read what the stages before `score` wrote; a file that changed since, or an adapter that is not the one that answered, is damage."""
    held_out = DATA / "validate/held_out.jsonl"
    adapter = Adapter.read(DATA / "fine_tune/adapter.json")
    systems = tuple(
        _read_answers(path)
        for system, path in FILES.items()
        if system not in OPTIONAL_COMPARATORS or path.is_file()
    )
    prompts = prompts_of(read_rows(_existing(held_out)))
    _same_prompts(prompts, systems)
    _same_models(adapter, systems)
    _same_configuration(systems)
    return Trial(
        dataset_digest=DatasetVersion.read(
            DATA / "split/dataset.json"
        ).content_sha256(),
        held_out_sha256=sha256_of(held_out),
        prompts=prompts,
        adapter=adapter,
        systems=systems,
        dev_prompts=prompts_of(
            read_rows(_existing(DATA / "admit/training_set/dev.jsonl"))
        ),
        variants=_read_all(Variant, DATA / "generate/variants.jsonl"),
    )


def _read_answers(path: Path) -> SystemAnswers:
    completions = Completions.read(path)
    return SystemAnswers(
        completions=completions,
        answers=_read_all(Completion, completions.answers.checked()),
        losses=_read_all(TokenLoss, completions.losses.checked()),
    )


def _same_prompts(prompts: Iterable[Prompt], systems: Iterable[SystemAnswers]) -> None:
    digest = digest_of_json([prompt.model_dump() for prompt in prompts])
    for answers in systems:
        if answers.completions.prompts_sha256 != digest:
            raise DamagedFile(
                f"The answers of {answers.system} are to other prompts than data/validate/held_out.jsonl. Run `dvc repro` again."
            )


def _same_models(adapter: Adapter, systems: Iterable[SystemAnswers]) -> None:
    """The scored configuration is the one that was trained; only a champion or an anchor may stand on another base."""
    for completions in (answers.completions for answers in systems):
        if (
            completions.system not in OPTIONAL_COMPARATORS
            and completions.spec.base_digest != adapter.base_digest
        ):
            raise DamagedFile(
                f"The answers of {completions.system} come from another base model than the adapter's. Run `dvc repro generate`."
            )
        if (
            completions.system == "adapter"
            and completions.spec.adapter_sha256 != adapter.sha256
        ):
            raise DamagedFile(
                "The adapter's answers come from another adapter than data/fine_tune/adapter.json. Run `dvc repro generate`."
            )
        if (
            completions.system not in OPTIONAL_COMPARATORS
            and completions.spec.chat_template_sha256 != adapter.chat_template_sha256
        ):
            raise DamagedFile(
                f"The answers of {completions.system} come from another chat template than the adapter's. Run `dvc repro generate`."
            )


def _same_configuration(systems: Iterable[SystemAnswers]) -> None:
    """Everything but the adapter is the same, so that a difference in scores is the adapter's."""
    specs = {
        each.system: each.completions.spec.with_adapter(None)
        for each in systems
        if each.system not in OPTIONAL_COMPARATORS
    }
    for system, spec in specs.items():
        for difference in specs["adapter"].differences(spec):
            raise DamagedFile(
                f"The answers of {system} and of the adapter were made differently: {difference}. Run `dvc repro score`."
            )


def _read_all(kind: type[V], path: Path) -> tuple[V, ...]:
    try:
        return tuple(
            kind.model_validate(record) for record in read_jsonl(_existing(path))
        )
    except ValidationError as error:
        raise DamagedFile(
            f"{path} holds a row that is no {kind.__name__}: {first_problem(error)}. Run its stage again."
        ) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise DamagedFile(
            f"{path} does not exist. Run the stage that writes it: `dvc repro`."
        )
    return path


def _one_for_each(what: str, wanted: Iterable[object], given: Iterable[object]) -> None:
    """Raise `IncompleteGeneration` unless everything wanted is there exactly once, and nothing else."""
    want, have = Counter(wanted), Counter(given)
    for fact, wrong in (("missing", want - have), ("too many", have - want)):
        if wrong:
            raise IncompleteGeneration(
                f"{wrong.total()} {what} {fact}, first {next(iter(wrong))!r}. Run `dvc repro generate` again."
            )
