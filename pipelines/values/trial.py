"""What is scored together: the held-out prompts, the adapter, and all answers of every system."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from core.errors import DamagedFile, IncompleteGeneration
from core.files import digest_of_json, read_jsonl, sha256_of
from core.value import Value, first_problem
from pipelines.values.dataset import DatasetVersion, Prompt, group_prompts, read_rows
from pipelines.values.evidence import (
    OPTIONAL_COMPARATORS,
    RELEASED,
    Adapter,
    Completion,
    Completions,
    System,
    TokenLoss,
    Variant,
)
from pipelines.values.humaneval import HumanEvalAnswers
from pipelines.values.safety import SafetyAnswers
from pipelines.values.sampling import SampledAnswer, SampledAs

V = TypeVar("V", bound=Value)
P = TypeVar("P", SafetyAnswers, HumanEvalAnswers)
DATA = Path("data")
# Champion and anchor are optional: a first version has nothing to be compared with. So is
# retrieval: policies ask for it.
FILES: dict[System, Path] = {
    "base": DATA / "prompt_baselines/base.json",
    "few_shot": DATA / "prompt_baselines/few_shot.json",
    "retrieval": DATA / "prompt_baselines/retrieval.json",
    "adapter": DATA / "generate/adapter.json",
    "champion": DATA / "generate/champion.json",
    "anchor": DATA / "generate/anchor.json",
}


class SystemAnswers(Value):
    """One system's answers and the losses of the references under it."""

    completions: Completions
    answers: tuple[Completion, ...]
    losses: tuple[TokenLoss, ...]
    samples: tuple[SampledAnswer, ...] = ()

    @property
    def drawn(self) -> SampledAs | None:
        """How the samples were drawn; None where answers are greedy."""
        sampled = self.completions.sampled
        return None if sampled is None else sampled.drawn

    @property
    def system(self) -> System:
        """The system that answered."""
        return self.completions.system


class Trial(Value):
    """Everything that `score` reads."""

    # Carried into the scorecard, which names what it is about.
    dataset_digest: str
    held_out_sha256: str
    prompts: tuple[Prompt, ...]
    adapter: Adapter
    systems: tuple[SystemAnswers, ...]
    # For the bias report where no feature is declared; the held-out prompts are asked only once.
    dev_prompts: tuple[Prompt, ...]
    variants: tuple[Variant, ...]
    probed: SafetyAnswers | None = None
    humaneval: HumanEvalAnswers | None = None

    def answers(self, system: System) -> SystemAnswers:
        """One system's answers: one for each prompt, with a loss for each reference.

        `IncompleteGeneration` where one is missing, or there is one too many.
        """
        matching = [answers for answers in self.systems if answers.system == system]
        if not matching:
            raise IncompleteGeneration(
                f"There are no answers of {system}. Run `dvc repro generate`."
            )
        answers = matching[0]
        _check_one_for_each(
            f"answers of {system}",
            expected=(prompt.id for prompt in self.prompts),
            actual=(answer.prompt_id for answer in answers.answers),
        )
        _check_one_for_each(
            f"losses of {system}",
            expected=_references(self.prompts),
            actual=((loss.prompt_id, loss.reference) for loss in answers.losses),
        )
        drawn = answers.drawn
        _check_one_for_each(
            f"samples of {system}",
            expected=_samples(self.prompts, 0 if drawn is None else drawn.samples),
            actual=((sample.prompt_id, sample.sample) for sample in answers.samples),
        )
        return answers

    @property
    def drawn(self) -> SampledAs | None:
        """How answers were drawn, which is the same for every system.

        `IncompleteGeneration` where it is not: a mean of samples and a greedy answer are not to be
        compared.
        """
        of_systems = {answers.system: answers.drawn for answers in self.systems}
        own = of_systems.get("adapter")
        for system, drawn in of_systems.items():
            if drawn != own:
                raise IncompleteGeneration(
                    f"The answers of {system} were drawn otherwise than those of the adapter: "
                    "another temperature, or other seeds. Run `dvc repro generate`."
                )
        return own


def _references(prompts: Iterable[Prompt]) -> Iterator[tuple[str, int]]:
    """Every reference, by its prompt's identifier and its number."""
    for prompt in prompts:
        for number in range(len(prompt.references)):
            yield prompt.id, number


def _samples(prompts: Iterable[Prompt], samples: int) -> Iterator[tuple[str, int]]:
    """Every sample, by its prompt's identifier and its number."""
    for prompt in prompts:
        for number in range(samples):
            yield prompt.id, number


def read_trial() -> Trial:
    """Read what the stages before `score` wrote.

    `DamagedFile` where a file has changed since, or where other models or other settings answered
    than those that were trained.
    """
    held_out = DATA / "validate/held_out.jsonl"
    dev = DATA / "admit/training_set/dev.jsonl"
    adapter = Adapter.read(DATA / "fine_tune/adapter.json")
    # A baseline that is missing is an error; a score is never invented for it.
    systems = tuple(
        read_answers(path)
        for system, path in FILES.items()
        if system not in OPTIONAL_COMPARATORS or path.is_file()
    )
    prompts = _read_prompts(held_out)
    # Answers may be from the cache, or from another revision of the files that are here now.
    _check_prompts(prompts, systems)
    _check_models(adapter, systems)
    _check_configuration(systems)
    dataset = DatasetVersion.read(DATA / "split/dataset.json")
    return Trial(
        dataset_digest=dataset.content_sha256(),
        held_out_sha256=sha256_of(held_out),
        prompts=prompts,
        adapter=adapter,
        systems=systems,
        dev_prompts=_read_prompts(dev),
        variants=_read_values(Variant, DATA / "generate/variants.jsonl"),
        probed=_read_probed(SafetyAnswers, DATA / "generate/safety.json", adapter),
        humaneval=_read_probed(
            HumanEvalAnswers, DATA / "generate/humaneval.json", adapter
        ),
    )


def _read_probed(kind: type[P], path: Path, adapter: Adapter) -> P | None:
    """What was asked beside the held-out prompts; None where nothing was."""
    if not path.is_file():
        return None
    answers = kind.read(path)
    who = (answers.systems.get("adapter"), answers.base_digest)
    if who != (adapter.sha256, adapter.base_digest):
        raise DamagedFile(
            f"{path} is about another adapter or base than data/fine_tune/adapter.json. "
            "Run `dvc repro generate`."
        )
    return answers


def _read_prompts(path: Path) -> tuple[Prompt, ...]:
    _check_exists(path)
    return group_prompts(read_rows(path))


def read_answers(path: Path) -> SystemAnswers:
    """Read one system's answers and losses from what `answer` wrote.

    `DamagedFile` where a file is missing or has changed.
    """
    completions = Completions.read(path)
    sampled = completions.sampled
    samples: tuple[SampledAnswer, ...] = ()
    if sampled is not None:
        samples = _read_values(SampledAnswer, sampled.answers.checked())
    return SystemAnswers(
        completions=completions,
        answers=_read_values(Completion, completions.answers.checked()),
        losses=_read_values(TokenLoss, completions.losses.checked()),
        samples=samples,
    )


def _check_prompts(prompts: Iterable[Prompt], systems: Iterable[SystemAnswers]) -> None:
    digest = digest_of_json([prompt.model_dump() for prompt in prompts])
    for answers in systems:
        if answers.completions.prompts_sha256 != digest:
            raise DamagedFile(
                f"The answers of {answers.system} are to other prompts than "
                "data/validate/held_out.jsonl. Run `dvc repro` again."
            )


def _check_models(adapter: Adapter, systems: Iterable[SystemAnswers]) -> None:
    """The models that answered are those of the training; champion and anchor have their own."""
    for answers in systems:
        system = answers.system
        spec = answers.completions.spec
        # They were trained in other runs, and `read_comparators` has checked them.
        if system in RELEASED:
            continue
        if spec.base_digest != adapter.base_digest:
            raise DamagedFile(
                f"The answers of {system} come from another base model than the adapter's. "
                "Run `dvc repro generate`."
            )
        if system == "adapter" and spec.adapter_sha256 != adapter.sha256:
            raise DamagedFile(
                "The adapter's answers come from another adapter than "
                "data/fine_tune/adapter.json. Run `dvc repro generate`."
            )
        if spec.chat_template_sha256 != adapter.chat_template_sha256:
            raise DamagedFile(
                f"The answers of {system} come from another chat template than the adapter's. "
                "Run `dvc repro generate`."
            )


def _check_configuration(systems: Iterable[SystemAnswers]) -> None:
    """Everything but the adapter is the same, so that a difference in scores is the adapter's."""
    specs = {
        answers.system: answers.completions.spec.with_adapter(None)
        for answers in systems
        if answers.system not in RELEASED
    }
    # The first difference is enough: one run of the stages makes them all the same.
    for system, spec in specs.items():
        differences = specs["adapter"].differences(spec)
        if differences:
            raise DamagedFile(
                f"The answers of {system} and of the adapter were made differently: "
                f"{differences[0]}. Run `dvc repro score`."
            )


def _read_values(kind: type[V], path: Path) -> tuple[V, ...]:
    _check_exists(path)
    try:
        return tuple(kind.model_validate(record) for record in read_jsonl(path))
    except ValidationError as error:
        problem = first_problem(error)
        raise DamagedFile(
            f"{path} holds a row that is no {kind.__name__}: {problem}. "
            "Run its stage again."
        ) from error


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise DamagedFile(
            f"{path} does not exist. Run the stage that writes it: `dvc repro`."
        )


def _check_one_for_each(
    kind: str, *, expected: Iterable[object], actual: Iterable[object]
) -> None:
    """`IncompleteGeneration` unless everything expected is there exactly once, and nothing else."""
    expected_counts = Counter(expected)
    actual_counts = Counter(actual)
    # Subtraction of counters keeps what is positive.
    missing = expected_counts - actual_counts
    surplus = actual_counts - expected_counts
    differences = (("missing", missing), ("too many", surplus))
    for fact, entries in differences:
        if entries:
            example = next(iter(entries))
            raise IncompleteGeneration(
                f"{entries.total()} {kind} {fact}, first {example!r}. "
                "Run `dvc repro generate` again."
            )
