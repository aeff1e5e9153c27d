"""What the rules of `screen` look at: scores, comparisons and the policy."""

from pydantic import ValidationError

from core.errors import IncompleteEvidence
from core.value import Value, first_problem
from pipelines.gates.comparisons import COMPARATORS
from pipelines.gates.no_evidence import is_at_best, is_flat
from pipelines.gates.policy import GatePolicy, Guardrail, ScreenPolicy
from pipelines.metrics import Metric, OwnMetric, metric_named
from pipelines.values.dataset import Interval
from pipelines.values.evidence import Scorecard, System
from pipelines.values.own_metric import OwnMetricRecord
from pipelines.values.verdict import Comparison


class Case(Value):
    """What one rule looks at."""

    scorecard: Scorecard
    comparisons: tuple[Comparison, ...]
    gates: GatePolicy

    @property
    def policy(self) -> ScreenPolicy:
        """The limits of this gate."""
        return self.gates.screen

    @property
    def comparators(self) -> tuple[System, ...]:
        """What the policy asks for always; every other system where it was scored."""
        asked = self.policy.baselines
        # A prompt that is a baseline itself cannot be better than it.
        itself = self.scorecard.adapter.is_baseline
        return tuple(
            system
            for system in COMPARATORS
            if system != itself
            if system in asked or self.scorecard.system(system) is not None
        )

    @property
    def judged_metrics(self) -> set[str]:
        """The metrics that the policy judges: the primary one and the guardrails."""
        metrics = {guardrail.metric for guardrail in self.policy.guardrails}
        metrics.add(self.policy.primary)
        if self.policy.cheaper is not None:
            metrics.add(self.policy.cheaper.cost)
        return metrics

    def list_metrics_judged_against(self, against: System) -> set[str]:
        """Return the primary metric, and those of the guardrails that name the system."""
        policy = self.policy
        metrics = {policy.primary}
        for guardrail in policy.guardrails:
            if against in guardrail.against:
                metrics.add(guardrail.metric)
        return metrics

    def find_comparison(self, metric: str, against: str) -> Comparison | None:
        """Return the one comparison of the adapter with a system; of none or two, None."""
        matching = [
            comparison
            for comparison in self.comparisons
            if comparison.metric == metric and comparison.against == against
        ]
        # Of two, whoever added one would choose which counts.
        return matching[0] if len(matching) == 1 else None

    def find_comparable(self, metric: str, against: System) -> Comparison | None:
        """Return the comparison where both sides were computed in the same way, else None."""
        own = self.find_signature(metric, "adapter")
        other = self.find_signature(metric, against)
        if own is None or own != other:
            return None
        return self.find_comparison(metric, against)

    def find_signature(self, metric: str, system: System) -> str | None:
        """Return how a metric of a system was computed; None where it was not."""
        system_score = self.scorecard.system(system)
        if system_score is None:
            return None
        for score in system_score.metrics:
            if score.name == metric:
                return score.signature
        return None

    def find_inapplicable(self, metric: str) -> str | None:
        """Return why a metric says nothing about these references; None where it applies."""
        # References are the same for every system.
        system_score = self.scorecard.system("adapter")
        if system_score is None:
            return None
        for score in system_score.metrics:
            if score.name == metric:
                return score.inapplicable
        return None

    def find_metric(self, metric: str) -> Metric:
        """Return a built-in metric, or an own one by what the scorecard keeps of its file."""
        record = self.find_own_metric(metric)
        return metric_named(metric) if record is None else OwnMetric(record)

    def find_own_metric(self, metric: str) -> OwnMetricRecord | None:
        """Return what the scorecard keeps of an own metric; None where it has none of that name."""
        # The same for every system, as the evidence has one record of each.
        system_score = self.scorecard.system("adapter")
        scores = () if system_score is None else system_score.metrics
        for score in scores:
            if score.name == metric:
                return score.own
        return None

    def has_judged(self, guardrail: Guardrail) -> bool:
        """Whether a guardrail applies, and can tell the adapter from a system that it names."""
        metric = guardrail.metric
        if self.find_signature(metric, "adapter") is None:
            return False
        if self.find_inapplicable(metric) is not None:
            return False
        return any(
            against in guardrail.against and not self.tells_nothing(metric, against)
            for against in self.comparators
        )

    def tells_nothing(self, metric: str, against: System) -> bool:
        """Whether both have one score on every prompt, and could have a better one."""
        own = self.find_interval(metric, "adapter")
        other = self.find_interval(metric, against)
        is_best = is_at_best(self.find_metric(metric), own)
        return is_flat(own, other) and not is_best

    def find_interval(self, metric: str, system: System) -> Interval | None:
        """Return the score of a system with its interval; None where there is none."""
        system_score = self.scorecard.system(system)
        scores = () if system_score is None else system_score.metrics
        for score in scores:
            if score.name == metric:
                return score.interval
        return None


def build_case(
    scorecard: Scorecard, comparisons: tuple[Comparison, ...], gates: GatePolicy
) -> Case:
    """Validate once more: a value that was built without validation could hold a NaN."""
    try:
        return Case(
            scorecard=Scorecard.model_validate(scorecard.model_dump()),
            comparisons=tuple(
                Comparison.model_validate(comparison.model_dump())
                for comparison in comparisons
            ),
            gates=gates,
        )
    except ValidationError as error:
        raise IncompleteEvidence(
            f"What screen is to judge is not valid: {first_problem(error)}. "
            "Run the score stage again."
        ) from error
