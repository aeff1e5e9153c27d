"""The gates' limits: YAML in `registry/policies/`, parsed into closed models.

A verdict records the file's digest. A number that would let anything pass has a ceiling or a floor
here: such a policy does not load.
"""

import difflib
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from core.errors import ParameterError
from core.roles import PersonRole
from core.value import Settable, Value
from pipelines.gates.admit_policy import (
    HALF,
    AdmitPolicy,
    UpToHalf,
    explained,
    read_document,
)
from pipelines.gates.cheaper import COSTS, CheaperPolicy
from pipelines.gates.humaneval_check import HumanEvalPolicy
from pipelines.gates.safety_policy import SafetyPolicy
from pipelines.metrics import Metric, metric_named
from pipelines.values.baselines import ALWAYS, Asked
from pipelines.values.canary import CanaryPlan, Quorum
from pipelines.values.own_metric import BUILT_IN, Name, is_own_name
from pipelines.values.sampling import DEFAULT, Samples

FEWEST_CLUSTERS = 10
"""Under this many clusters nothing passes, whatever a policy says.

Simulated at a level of 0.05: a candidate that is no better passes in 25 % of cases at 2 clusters
and in 11 % at 3. The bounds hold from about 5 clusters on where these are of equal size, which
those of real data are not.
"""
# Systems that the adapter may have to be compared with.
Comparator = Literal["base", "few_shot", "retrieval", "champion", "anchor"]


class JudgedMetric(NamedTuple):
    """What a policy has to know of a metric to limit what it asks for."""

    name: str
    scale: float
    compares_answers: bool


class Guardrail(Settable):
    """A metric that may not get worse by more than `margin`, in the metric's own unit."""

    metric: str
    margin: Annotated[float, Field(gt=0)] = Field(
        description="Above zero: no number of rows shows that nothing at all was lost."
    )
    against: tuple[Comparator, ...] = Field(
        default=("base", "few_shot", "retrieval", "champion", "anchor"), min_length=1
    )
    required: bool = Field(
        default=True,
        description="False: judged only where the parameters ask for the metric, "
        "and where it can tell answers apart.",
    )


class ScreenPolicy(Settable):
    """Limits on evidence before registration."""

    primary: str = Field(
        description="The metric that must be superior to every comparator."
    )
    control: str = Field(
        description="Metric of the negative control: compares an answer with references."
    )
    smallest_effect: Annotated[float, Field(gt=0)] = Field(
        description="Difference in the primary metric that is worth a release; "
        "at most a tenth of its scale."
    )
    # One level for every comparison: a release must pass them all, so it needs no correction.
    alpha: Annotated[float, Field(gt=0, le=0.1)] = Field(
        description="One-sided level of every comparison."
    )
    power: Annotated[float, Field(gt=0.5, lt=1)]
    min_clusters: Annotated[int, Field(ge=FEWEST_CLUSTERS)]
    baselines: Asked = Field(
        default=ALWAYS,
        description="Prompts without training that the adapter has to beat. `retrieval` puts the "
        "most similar training rows before each prompt, which takes as long again as `few_shot`.",
    )
    cheaper: CheaperPolicy | None = Field(
        default=None,
        description="The second kind of screen: not inferior to some systems, and cheaper; null: "
        "superior to all of them.",
    )
    # The policy's own, beside those of the parameters: a gate does not rest on what a run may set.
    resamples: Annotated[int, Field(ge=1000, le=10**6)]
    seed: Annotated[int, Field(ge=0)]
    reserve: Literal["sealed", "none"] = Field(
        default="none",
        description="`sealed`: half of the held-out groups are kept unseen, and what passes has to "
        "be confirmed on a block of them, at a level that a year's candidates share. `none`: the "
        "same groups judge every candidate, and `judge` says which error a year then has.",
    )
    block_groups: Annotated[int, Field(ge=FEWEST_CLUSTERS, le=10**6)] = Field(
        default=37,
        description="Groups of a block, at least; never fewer than judge every candidate, so that "
        "a confirmation finds what a first look found.",
    )
    # Left out where it is the default: policies say the same as before.
    min_samples: Samples = Field(
        default=DEFAULT,
        exclude_if=lambda samples: samples == DEFAULT,
        description="Answers to each prompt, at least, where `generation.temperature` has them "
        "drawn by chance; fewer are undecided.",
    )
    guardrails: tuple[Guardrail, ...] = Field(min_length=1)
    max_output_score_difference: Annotated[float, Field(ge=0, le=50)] | None = Field(
        description="Largest gap in the bias report's row metric between groups, "
        "at the upper end of its interval; null: bias of outputs is not judged."
    )
    max_output_rate_difference: UpToHalf = Field(
        default=0.2,
        description="Largest gap between groups in the share of answers that are refusals, "
        "and in the selection rate where `bias.favourable_pattern` declares one, "
        "at the upper end of its interval.",
    )
    signatures: dict[str, str] = Field(
        default_factory=dict,
        description="By metric, parts that its signature must have, by `|`, such as `tok:zh`; "
        "without them, other settings than the defaults count only where these do not apply.",
    )
    own_metrics: dict[Name, Annotated[float, Field(gt=0, le=10**9)]] = Field(
        default_factory=dict,
        description="The project's own metrics (`metrics/NAME.py`) that this policy names, "
        "each with its scale: it limits the margins, and the file has to say the same.",
    )

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        """Every limit is one that some evidence can miss."""
        for name in self.own_metrics:
            if name in BUILT_IN:
                raise _problem(f"own_metrics names {name}, which is a metric of Assay")
        primary = self._known_metric(self.primary)
        control = self._known_metric(self.control)
        # Of an own metric the evidence shows it: without a comparison the control rejects.
        if not control.compares_answers:
            raise _problem(
                f"control {control.name} compares no answer with references, "
                "which a control must do"
            )
        # Asked as a pass, here and below: a NaN would get past "greater than".
        ceiling = primary.scale / 10
        if not self.smallest_effect <= ceiling:
            raise _over("smallest_effect", self.smallest_effect, ceiling, primary)
        self._check_cost()
        names = [guardrail.metric for guardrail in self.guardrails]
        # The primary metric must get better anyway, so it guards nothing.
        if not set(names) - {primary.name}:
            raise _problem(
                f"guardrails name no metric besides the primary one, {primary.name}"
            )
        for name in self.signatures:
            self._known_metric(name)
        for guardrail in self.guardrails:
            self._check_margin(guardrail)
            if names.count(guardrail.metric) != 1:
                raise _problem(f"guardrails name {guardrail.metric} twice")
        return self

    def _check_cost(self) -> None:
        """A cost is no quality: whoever answers nothing costs least."""
        if self.primary in COSTS:
            raise _problem(f"primary is {self.primary}, which is a cost and no quality")
        cheaper = self.cheaper
        if cheaper is not None and not cheaper.margin <= self.smallest_effect:
            raise _problem(
                f"cheaper.margin is {cheaper.margin:g}, over the smallest effect, "
                f"{self.smallest_effect:g}: such a loss is worth a release"
            )

    def may_be_equal_to(self, system: str) -> bool:
        """Whether a candidate need not beat a system in quality, since it has to be cheaper."""
        return self.cheaper is not None and system in self.cheaper.than

    def _check_margin(self, guardrail: Guardrail) -> None:
        metric = self._known_metric(guardrail.metric)
        ceiling = self.most_margin(metric)
        if not guardrail.margin <= ceiling:
            name = f"the margin of {guardrail.metric}"
            raise _over(name, guardrail.margin, ceiling, metric)

    def _known_metric(self, name: str) -> "JudgedMetric":
        """A built-in metric, or one of the project's own that the policy gives the scale of.

        No file is read: policies are loaded where there is none, such as beside a package.
        """
        scale = self.own_metrics.get(name)
        if scale is not None:
            return JudgedMetric(name, scale, compares_answers=True)
        try:
            metric = metric_named(name)
        except ParameterError as error:
            raise _problem(self._describe_unknown(name, error)) from error
        return JudgedMetric(name, metric.scale, metric.compares_answers)

    def _describe_unknown(self, name: str, error: ParameterError) -> str:
        near = difflib.get_close_matches(name, self.own_metrics, n=1, cutoff=0.4)
        if near:
            return f"There is no metric {name}. Did you mean {near[0]}"
        # Part of a longer sentence, which has its own full stop.
        sentence = str(error).rstrip("?.")
        if not is_own_name(name):
            return sentence
        return (
            f"{sentence}; one of your own stands in screen.own_metrics with its scale, "
            f"as {{{name}: 1.0}}"
        )

    def most_margin(self, metric: "Metric | JudgedMetric") -> float:
        """The largest margin that a guardrail on a metric may have, in the metric's unit.

        Ten times the smallest effect, carried over from the primary metric's scale, and never over
        half a scale.
        """
        primary = self._known_metric(self.primary)
        share = 10 * self.smallest_effect / primary.scale
        most_share = min(HALF, share)
        return metric.scale * most_share


class HumanRatingPolicy(Settable):
    """Limits on people's ratings."""

    required: bool
    min_raters: Annotated[int, Field(ge=1)]
    margin: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.25,
        description="Points of 1 to 5 that may be lost, at the lower bound.",
    )
    wants: Literal["not_inferior", "superior"] = Field(
        default="not_inferior",
        description="superior: the lower bound of the difference has to be above 0.",
    )
    min_safe_share: Annotated[float, Field(ge=HALF, le=1)] = Field(
        default=0.9,
        description="Share of answers called safe, at the lower bound; where all are, "
        "0.9 needs 36 clusters of prompts and 0.95 needs 72.",
    )
    min_agreement: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=0.4,
        description="Krippendorff's alpha, at its lower bound; random ratings reach 0. "
        "null: not asked, for one rater alone.",
    )
    min_planted_caught: Annotated[float, Field(ge=HALF, le=1)] = Field(
        default=0.8,
        description="Share of the planted bad answers that a person must find bad, to count.",
    )
    max_reviews: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2,
        description="Reviews that one version may have, closed or not: with more, people are "
        "asked until it suits.",
    )
    author_may_rate: bool = Field(
        default=False,
        description="Whoever trained the version counts among those who rate it.",
    )

    @model_validator(mode="after")
    def _check_agreement(self) -> Self:
        """Two people who are asked must agree; one alone has nobody to agree with."""
        if self.min_agreement is None and self.min_raters != 1:
            raise _problem(
                f"min_agreement is null, which one rater may be asked for, "
                f"and min_raters is {self.min_raters}"
            )
        return self


class ModelRatingPolicy(Settable):
    """When a language model may rate in the place of people."""

    min_agreement: Annotated[float, Field(ge=0.4, le=1)] = Field(
        default=0.5,
        description="Krippendorff's alpha between the model and people on the same answers, "
        "at its lower bound.",
    )
    min_items: Annotated[int, Field(ge=20, le=10_000)] = Field(
        default=60,
        description="Answers that both rated, each by two people at least.",
    )
    max_age_days: Annotated[float, Field(gt=0, le=365)] = Field(
        default=90,
        description="Days since people and the model rated the same answers.",
    )


class JudgePolicy(Settable):
    """What a release needs besides its evidence."""

    human_rating: HumanRatingPolicy
    model_rating: ModelRatingPolicy | None = Field(
        default=None,
        description="Lets a language model that was calibrated against people rate in their "
        "place; null: people alone rate.",
    )
    approvals: Annotated[int, Field(ge=0)] = Field(
        description="People who approve; who trained it does not count."
    )
    package_signature_required: bool
    max_age_days: Annotated[float, Field(gt=0, le=3650)] = Field(
        description="Days from registration to release."
    )
    known_answers_share: Annotated[float, Field(ge=HALF, le=1)] = Field(
        description="Share of the scored answers that the loaded release must give again, "
        "word for word, before it gets traffic."
    )
    drawn_answers: Annotated[int, Field(ge=5, le=10_000)] = Field(
        default=20,
        description="Held-out prompts that the endpoint draws by chance before a release, "
        "to compare with the scored answers.",
    )
    compares_with_last_served: bool = Field(
        default=True,
        description="The evidence must compare with the last version that had full traffic "
        "and is not revoked.",
    )
    waivers_by: tuple[PersonRole, ...] = Field(
        default=("release_manager",),
        description="Roles of `people.yaml` whose waivers count; never the author's own.",
    )
    origin_approvals: bool = Field(
        default=False,
        description="Approvals count that were given where the version was received from, by "
        "users of MLflow's whom `people.yaml` lists here, too.",
    )


class GatePolicy(Settable):
    """One policy file."""

    # For people; verdicts record the file's digest.
    name: str
    admit: AdmitPolicy
    screen: ScreenPolicy
    judge: JudgePolicy
    safety: SafetyPolicy = Field(
        default=SafetyPolicy(),
        description="What the probes of safety may find, where a run asks for them.",
    )
    humaneval: HumanEvalPolicy = Field(
        default=HumanEvalPolicy(),
        description="How much worse at code it may be, where a run asks HumanEval's tasks.",
    )
    canary: CanaryPlan | None = Field(
        default=None,
        description="How a release is tried on a share of the traffic; "
        "null: it gets all of it at once.",
    )
    replica_quorum: Quorum = Field(
        default=100,
        description="Percent of the replicas that have a release ready before it switches, "
        "and answer with it before it is complete.",
    )


class Policy(Value):
    """A policy with the digest of the file it came from."""

    sha256: str
    gates: GatePolicy

    @property
    def admit(self) -> AdmitPolicy:
        """The limits of the first gate."""
        return self.gates.admit


def load_policy(path: Path) -> Policy:
    """Read a policy; `ParameterError` where it is missing or does not parse.

    So a gate without its policy fails closed.
    """
    with explained(path):
        document = read_document(path)
        return Policy(
            sha256=document.sha256,
            gates=GatePolicy.model_validate(document.content),
        )


def _over(
    name: str, number: float, ceiling: float, metric: JudgedMetric
) -> PydanticCustomError:
    scale = f"the scale of {metric.name} is {metric.scale:g} wide"
    return _problem(
        f"{name} is {number:g}, and the ceiling is {ceiling:g}, since {scale}"
    )


def _problem(sentence: str) -> PydanticCustomError:
    # A half of a surrogate pair, which YAML can hold, has no bytes.
    printable = sentence.encode("utf-8", "backslashreplace").decode()
    return PydanticCustomError("limit", "{sentence}", {"sentence": printable})
