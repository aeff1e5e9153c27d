"""Values about models: the adapter, its answers, and how they score."""

from typing import Any, Literal

from pydantic import Field

from core.files import digest_of_json
from core.value import FileDigest, Value
from pipelines.values.dataset import BiasReport, Interval
from pipelines.values.elsewhere import TrainedElsewhere
from pipelines.values.fixed_prompt import PromptRecord
from pipelines.values.humaneval import HumanEvalReport
from pipelines.values.own_metric import OwnMetricRecord
from pipelines.values.params import LoraParams
from pipelines.values.safety import SafetyReport
from pipelines.values.sampling import SampledAs, SampledCompletions
from pipelines.values.serving_spec import ServingSpec

# base, few_shot and retrieval are prompt-only baselines; champion and anchor were released.
System = Literal["base", "few_shot", "retrieval", "adapter", "champion", "anchor"]
RELEASED: tuple[System, ...] = ("champion", "anchor")
"""Systems that other runs made: they are compared with where they exist."""
OPTIONAL_COMPARATORS: tuple[System, ...] = ("retrieval", *RELEASED)
"""Systems that are compared with where they exist, or where the policy asks for them."""


class DevLoss(Value):
    """The dev loss at one look, in nats per completion token."""

    step: int
    loss: float


class Adapter(Value):
    """LoRA weights, and what they can only be used with: base model and chat template."""

    folder: str
    files: dict[str, str]
    sha256: str
    base_id: str
    base_revision: str
    base_digest: str
    # Weights that were trained under one template answer worse under another.
    chat_template_sha256: str | None
    lora: LoraParams | None = Field(description="None: a prompt, and no weights.")
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
        description="Steps from which training continued; 0: no checkpoint was whole."
    )
    # What it was trained on: another device or precision gives other weights.
    precision: str
    device: str
    real_tokens: int
    seconds: float
    elsewhere: TrainedElsewhere | None = Field(
        default=None,
        # So that older records keep their digests.
        exclude_if=lambda elsewhere: elsewhere is None,
        description="None: Assay trained it. Else steps are 0 and losses were measured here.",
    )
    prompt: PromptRecord | None = Field(
        default=None,
        exclude_if=lambda prompt: prompt is None,
        description="A prompt in place of weights: what stands before every conversation.",
    )

    @property
    def is_baseline(self) -> System | None:
        """The baseline that it is itself, with which nothing compares it."""
        return None if self.prompt is None else self.prompt.same_as


class Completion(Value):
    """What one system answered to one prompt."""

    prompt_id: str
    text: str
    tokens: int
    ended: bool = Field(
        description="The model ended its turn by itself, before the token limit."
    )
    prompt_tokens: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda tokens: tokens is None,
        description="Of the whole conversation, and of what stood before it.",
    )


class TokenLoss(Value):
    """Loss of one reference completion under the template that is served.

    The end-of-turn token's loss is included.
    """

    prompt_id: str
    # Its place among the prompt's references.
    reference: int
    # Totals, not means: a mean over rows would weigh short completions more.
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
    """A `Variant` with the references of its prompt, for the bias report on outputs."""

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
        description="What stood before the prompts: few-shot examples, or the index."
    )
    # Of the prompts that were asked, in order: `score` refuses answers to others.
    prompts_sha256: str
    seed: int
    rows: int
    answers: FileDigest
    losses: FileDigest
    sampled: SampledCompletions | None = Field(
        default=None,
        exclude_if=lambda sampled: sampled is None,
        description="The answers that were drawn by chance; None: greedy ones alone.",
    )
    adapter_bytes: int | None = Field(
        default=None,
        ge=0,
        exclude_if=lambda size: size is None,
        description="Of the adapter's files, 0 without one; None: older, not measured.",
    )


class SampledScore(Value):
    """How k answers to one prompt differ, by one metric."""

    samples: int
    all_right: Interval | None = Field(
        description="pass^k: share of prompts whose k answers all have the best score; "
        "None: the metric has no best score."
    )
    variance: float = Field(
        ge=0, description="Of the k scores of a prompt, as the mean over prompts."
    )


class MetricScore(Value):
    """One metric of one system, with everything needed to believe it."""

    name: str
    unit: str
    higher_is_better: bool
    interval: Interval
    # Rows and clusters: an interval is only as good as the number of clusters.
    n: int
    clusters: int
    # How it was computed; scores with different signatures are not comparable.
    signature: str
    inapplicable: str | None = Field(
        default=None,
        description="Why it says nothing about these references; None: it applies.",
    )
    needless: str | None = Field(
        default=None,
        description="Parts of the signature that were set where the defaults apply, by `|`.",
    )
    own: OwnMetricRecord | None = Field(
        default=None,
        description="What the file of an own metric said of itself; None: it is built in.",
    )
    sampled: SampledScore | None = Field(
        default=None,
        exclude_if=lambda sampled: sampled is None,
        description="How sampled answers differ; None: answers are greedy, or all score alike.",
    )


class SystemScore(Value):
    """Every metric of one system."""

    system: System
    metrics: tuple[MetricScore, ...]

    def metric(self, name: str) -> MetricScore:
        """The metric of that name; `KeyError` where the system has none."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


class Resampling(Value):
    """How intervals are drawn: the same numbers give the same intervals."""

    resamples: int = Field(ge=200)
    seed: int


class Scorecard(Value):
    """Adapter and baselines on the same held-out prompts.

    A verdict is computed from `evidence`, which has a row for each answer.
    """

    # What was trained on, and what it was judged on.
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
    # `screen` refuses a scorecard whose scores do not follow from the evidence.
    systems: tuple[SystemScore, ...]
    evidence: FileDigest
    resampling: Resampling = Field(
        description="How the intervals above were drawn from the evidence."
    )
    bias: BiasReport
    named_answers: FileDigest | None = Field(
        default=None, description="What `bias` was computed from besides the evidence."
    )
    safety: SafetyReport | None = Field(
        default=None, description="None: no probe of safety was asked for."
    )
    safety_answers: FileDigest | None = Field(
        default=None, description="What `safety` was computed from."
    )
    wording: BiasReport | None = Field(
        default=None,
        description="Length and listed words by group; None: not asked for.",
    )
    humaneval: HumanEvalReport | None = Field(
        default=None, description="None: HumanEval's tasks were not asked."
    )
    humaneval_answers: FileDigest | None = Field(
        default=None, description="What `humaneval` was computed from."
    )
    sampled_as: SampledAs | None = Field(
        default=None,
        exclude_if=lambda sampled_as: sampled_as is None,
        description="How the answers were drawn whose mean the scores are; None: greedily.",
    )

    def content_sha256(self) -> str:
        """SHA-256 of the value in canonical JSON.

        Fields that older scorecards lack are left out while empty, so that those keep their digest.
        """
        document = self.model_dump(mode="json")
        older = _without_newer_fields(document)
        return digest_of_json(older)

    def system(self, name: System) -> SystemScore | None:
        """The scores of one system, or None where it was not scored."""
        for score in self.systems:
            if score.system == name:
                return score
        return None


# Of the scorecard and of the values in it. A later optional field belongs here too.
_NEWER_FIELDS = {
    "groups",
    "contents",
    "named_answers",
    "refused",
    "refusal_difference",
    "favourable_is_declared",
    "inapplicable",
    "needless",
    "own",
    "safety",
    "safety_answers",
    "wording",
    "humaneval",
    "humaneval_answers",
    "sampled",
    "sampled_as",
}


def _without_newer_fields(document: Any) -> Any:
    if isinstance(document, list):
        return [_without_newer_fields(entry) for entry in document]
    if not isinstance(document, dict):
        return document
    return {
        key: _without_newer_fields(entry)
        for key, entry in document.items()
        if not (key in _NEWER_FIELDS and _is_empty(entry))
    }


def _is_empty(entry: Any) -> bool:
    # Not by truth: an empty table or a zero is a statement, which newer scorecards make.
    return entry is None or entry is False
