"""Generate held-out answers once more: whether this adapter gave the answers that were scored."""

from pathlib import Path

from pydantic import Field, ValidationError

from core.errors import ServingError
from core.value import Value, first_problem
from pipelines.engines.scored_model import open_scored_model
from pipelines.gates.policy import load_policy
from pipelines.models.base_store import locate_base_model
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import LanguageModel, generate
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.engine_name import ENGINE_NAMES, find_engine
from pipelines.values.params import GenerationParams
from registry.release.known_answers import KnownAnswer, draw_answers
from serving.load import scored_precision
from serving.package import (
    WEIGHTS,
    Package,
    check_base,
    open_package,
    read_chat_template,
)

# Answers in one batch: a few seconds on two cores, and far from any memory limit.
_BATCH_SIZE = 16


class RegenerationReport(Value):
    """How many drawn prompts were answered as they were scored, and how many the policy wants."""

    asked: int = Field(ge=1)
    same: int = Field(ge=0)
    share: float = Field(gt=0, le=1, description="Of the package's policy.")
    different: tuple[str, ...] = Field(
        description="Beginnings of prompts that were answered otherwise."
    )

    @property
    def is_enough(self) -> bool:
        """Whether as many came back word for word as the policy asks for."""
        fewest = self.share * self.asked
        return self.same >= fewest

    @property
    def text(self) -> str:
        """Both numbers in one sentence."""
        fact = (
            f"{self.same} of {self.asked} drawn answers are what was scored; "
            f"the policy asks for {self.share:.0%}"
        )
        if not self.different:
            return fact
        return f"{fact}; other answers to: {'; '.join(self.different)}"


def regenerate(package: Path, count: int, home: Path) -> RegenerationReport:
    """Draw held-out prompts of a version's package and have its adapter answer them.

    Greedily and as it was scored. `ServingError` where the folder holds no weights or no
    prompts, `DamagedFile` where any of its bytes differ.
    """
    if not (package / WEIGHTS).is_dir():
        raise ServingError(
            f"{package} holds no weights. Give the package of a version: "
            "`.assay/packages/…`, or its artifacts from MLflow."
        )
    base = BaseModelManifest.read(package / "base_model.json")
    opened = open_package(package, base)
    params = _scored_with(opened)
    base_folder = locate_base_model(base, home)
    check_base(base_folder, base)
    drawn = draw_answers(package, count, params.max_new_tokens)
    if not drawn:
        raise ServingError(
            f"{package} holds no held-out prompts: it is from before packages did. "
            "Train the version again."
        )
    template = read_chat_template(base, (package, base_folder))
    placed = PlacedBase(base, base_folder, template)
    with open_scored_model(placed, params, opened.adapter_folder) as language:
        texts = _generate_texts(language, drawn, params)
    pairs = zip(drawn, texts, strict=True)
    different = [answer for answer, text in pairs if text != answer.text]
    beginnings = [answer.messages[-1].content[:40] for answer in different]
    policy = load_policy(package / "policy.yaml")
    return RegenerationReport(
        asked=len(drawn),
        same=len(drawn) - len(different),
        share=policy.gates.judge.known_answers_share,
        # Three show what kind of prompt it is; all of them would fill the screen.
        different=tuple(repr(beginning) for beginning in beginnings[:3]),
    )


def _scored_with(package: Package) -> GenerationParams:
    """How its answers were computed, by its verdict; `ServingError` where nothing computes so."""
    spec = package.verdict.spec
    engine = find_engine(spec.engine)
    if engine is None:
        raise ServingError(
            f"{package.folder} was scored by {spec.engine[:40]}, which this version of Assay does "
            f"not know, only {', '.join(ENGINE_NAMES)}. Install the one that made it."
        )
    precision = scored_precision(package)
    try:
        return GenerationParams(
            max_new_tokens=spec.default_max_tokens,
            batch_size=_BATCH_SIZE,
            precision=precision,
            seed=0,
            engine=engine,
        )
    # Whoever wrote it by hand may have named what no run takes.
    except ValidationError as error:
        raise ServingError(
            f"{package.folder} cannot have been scored as its verdict says: "
            f"{first_problem(error)}. Have this configuration screened by itself."
        ) from error


def _generate_texts(
    language: LanguageModel, answers: tuple[KnownAnswer, ...], params: GenerationParams
) -> list[str]:
    prompts = [language.encoder.prompt_ids(answer.messages) for answer in answers]
    generated = generate(
        language,
        prompts,
        max_new_tokens=params.max_new_tokens,
        batch_size=params.batch_size,
    )
    return [language.encoder.decode(answer.ids) for answer in generated]
