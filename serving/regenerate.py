"""Held-out answers made once more: whether this adapter, and no other, gave the answers that were scored."""

from pathlib import Path

from pydantic import Field

from core.errors import ServingError
from core.value import Value
from pipelines.gates.policy import load_policy
from pipelines.models.language_model import generate, load_language_model
from pipelines.stages.base_model import locate
from pipelines.values.base_manifest import BaseModelManifest
from registry.release.known_answers import draw_answers
from serving.load import scored_precision
from serving.package import WEIGHTS, chat_template, check_base, open_package

_AT_ONCE = 16
"""Answers in one batch: a few seconds on two cores, and far from any memory limit."""


class Regenerated(Value):
    """How many of the drawn prompts were answered as they were scored, and how many the policy asks for."""

    asked: int = Field(ge=1)
    same: int = Field(ge=0)
    share: float = Field(gt=0, le=1, description="Of the package's policy.")
    different: tuple[str, ...] = Field(
        description="Beginnings of prompts that were answered otherwise."
    )

    @property
    def is_enough(self) -> bool:
        """As many came back word for word as the policy asks for."""
        return self.same >= self.share * self.asked

    @property
    def text(self) -> str:
        """Both numbers in one sentence."""
        fact = f"{self.same} of {self.asked} drawn answers are what was scored; the policy asks for {self.share:.0%}"
        return (
            f"{fact}; other answers to: {'; '.join(self.different)}"
            if self.different
            else fact
        )


def regenerate(package: Path, count: int, home: Path) -> Regenerated:
    """Draw held-out prompts of a version's package and have its adapter answer them, greedily and as it was scored.

    `ServingError` where the folder holds no weights or no prompts, `DamagedFile` where any of its bytes differ.
    """
    if not (package / WEIGHTS).is_dir():
        raise ServingError(
            f"{package} holds no weights. Give the package of a version: `.assay/packages/…`, or its artifacts from MLflow."
        )
    base = BaseModelManifest.read(package / "base_model.json")
    opened = open_package(package, base)
    base_folder = locate(base, home)
    check_base(base_folder, base)
    spec = opened.verdict.spec
    drawn = draw_answers(package, count, spec.default_max_tokens)
    if not drawn:
        raise ServingError(
            f"{package} holds no held-out prompts: it is from before packages did. Train the version again."
        )
    template = chat_template(base, (package, base_folder))
    language = load_language_model(
        base, base_folder, template, scored_precision(opened), opened.adapter_folder
    )
    prompts = [language.encoder.prompt_ids(each.messages) for each in drawn]
    answers = generate(
        language, prompts, max_new_tokens=spec.default_max_tokens, batch_size=_AT_ONCE
    )
    texts = [language.encoder.decode(answer.ids) for answer in answers]
    other = [each for each, text in zip(drawn, texts, strict=True) if text != each.text]
    return Regenerated(
        asked=len(drawn),
        same=len(drawn) - len(other),
        share=load_policy(package / "policy.yaml").gates.judge.known_answers_share,
        different=tuple(repr(each.messages[-1].content[:40]) for each in other[:3]),
    )
