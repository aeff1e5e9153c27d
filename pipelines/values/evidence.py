"""Values about models: the adapter, its answers, and how they score."""

from typing import Any, Literal

from pydantic import Field

from core.files import digest_of_json
from core.value import FileDigest, Value
from pipelines.values.dataset import BiasReport, Interval
from pipelines.values.params import LoraParams
from pipelines.values.serving_spec import ServingSpec

System = Literal["base", "few_shot", "adapter", "champion", "anchor"]
OPTIONAL_COMPARATORS: tuple[System, ...] = ("champion", "anchor")
"""Systems that are compared with where there is one."""


class DevLoss(Value):
    """The dev loss at one look, in nats per completion token."""

    step: int
    loss: float


class Adapter(Value):
    """LoRA weights, and what they are worth nothing without."""

    folder: str
    files: dict[str, str]
    sha256: str
    base_id: str
    base_revision: str
    base_digest: str
    chat_template_sha256: str | None
    lora: LoraParams
    steps: int
    train_loss: float
    dev_losses: tuple[DevLoss, ...] = Field(
        min_length=2, description="First before training, then each look."
    )
    best_step: int
    moved: float = Field(
        description="Euclidean norm of the LoRA B matrices, which start at zero."
    )
    resumed_from: tuple[int, ...] = Field(
        description="Steps at which an interrupted training went on; 0: no checkpoint was whole."
    )
    precision: str
    device: str
    real_tokens: int
    seconds: float


class Completion(Value):
    """What one system answered to one prompt."""

    prompt_id: str
    text: str
    tokens: int
    ended: bool = Field(
        description="The model ended its turn by itself, before the token limit."
    )


class TokenLoss(Value):
    """Loss of one reference completion under the template that is served, end-of-turn token included."""

    prompt_id: str
    reference: int
    nats: float = Field(ge=0)
    tokens: int = Field(ge=1)
    utf8_bytes: int = Field(ge=1, description="Bytes of the completion's text.")


class Variant(Value):
    """The adapter's answer to a dev prompt that is asked in the name of a person of a group."""

    group: str
    name: str
    prompt_id: str
    text: str


class NamedAnswer(Value):
    """A `Variant` with the references of its prompt: all that the bias report on outputs is computed from."""

    group: str
    name: str
    prompt_id: str
    references: tuple[str, ...] = Field(min_length=1)
    text: str


class Completions(Value):
    """One system's answers to the held-out prompts: one a prompt, none dropped."""

    system: System
    spec: ServingSpec = Field(description="What answered.")
    prompt_prefix_sha256: str | None = Field(
        description="The few-shot examples, for the few-shot base."
    )
    prompts_sha256: str
    seed: int
    rows: int
    answers: FileDigest
    losses: FileDigest


class MetricScore(Value):
    """One metric of one system, with everything needed to believe it."""

    name: str
    unit: str
    higher_is_better: bool
    interval: Interval
    n: int
    clusters: int
    signature: str


class SystemScore(Value):
    """Every metric of one system."""

    system: System
    metrics: tuple[MetricScore, ...]

    def metric(self, name: str) -> MetricScore:
        """The metric of that name; its absence is a KeyError."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


class Resampling(Value):
    """How intervals are drawn: the same numbers give the same intervals."""

    resamples: int = Field(ge=200)
    seed: int


class Scorecard(Value):
    """Adapter and baselines on the same held-out prompts, with the per-row evidence that a verdict is computed from."""

    dataset_digest: str
    held_out_sha256: str
    adapter: Adapter
    spec: ServingSpec = Field(
        description="The configuration that the adapter's scores hold for."
    )
    prompts: int
    clusters: int = Field(description="Groups; those that share a content are one.")
    groups: int | None = Field(
        default=None, description="None: scored before contents were counted."
    )
    contents: int | None = Field(
        default=None,
        description="Prompts that differ in more than numbers and punctuation.",
    )
    systems: tuple[SystemScore, ...]
    evidence: FileDigest
    resampling: Resampling = Field(
        description="How the intervals above were drawn from the evidence."
    )
    bias: BiasReport
    named_answers: FileDigest | None = Field(
        default=None, description="What `bias` was computed from besides the evidence."
    )

    def content_sha256(self) -> str:
        """Fields that older scorecards do not have are left out where they are empty, so that those keep their digest."""
        return digest_of_json(_without_newer(self.model_dump(mode="json")))

    def system(self, name: System) -> SystemScore | None:
        """The scores of one system, or None where it was not scored."""
        return next((score for score in self.systems if score.system == name), None)


_NEWER = {
    "groups",
    "contents",
    "named_answers",
    "refused",
    "refusal_difference",
    "favourable_is_declared",
}


def _without_newer(document: Any) -> Any:
    if isinstance(document, dict):
        empty = {
            key
            for key in _NEWER & document.keys()
            if document[key] is None or document[key] is False
        }
        return {
            key: _without_newer(entry)
            for key, entry in document.items()
            if key not in empty
        }
    return (
        [_without_newer(entry) for entry in document]
        if isinstance(document, list)
        else document
    )
