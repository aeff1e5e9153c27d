"""How a system's metric was computed, as text: equal texts may be compared, others never.

A metric says what it counted. Where it counts what a tokenizer makes, the base belongs to it: two
tokenizers can cut a text into equally many tokens, and those tokens are still not the same. Nor do
they cost the same: a token of a larger model is more work.
"""

from pipelines.metrics import Metric
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.evidence import System

_DIGITS = 12
_COSTS_IN_TOKENS = frozenset({"tokens_per_answer"})


def signature_of(
    evidence: Evidence,
    metric: Metric,
    system: System,
) -> str:
    """The signature of one metric of one system.

    That of a metric of tokens names the base where it is not the adapter's. Older evidence does
    not say what answered, and holds answers on one base alone.
    """
    rows = [row.row for row in evidence.rows[system]]
    signature = metric.signature(rows)
    own = evidence.made_by.get("adapter")
    maker = evidence.made_by.get(system)
    # Metrics of texts alone say the same on every base.
    counts_tokens = metric.stand_in is not None or metric.name in _COSTS_IN_TOKENS
    if not counts_tokens or own is None or maker is None:
        return signature
    # Signatures of older evidence name no base, and must stay equal to these.
    if maker.base_digest == own.base_digest:
        return signature
    base = maker.base_digest[:_DIGITS]
    return f"{signature}|base:{base}"


def is_comparable(
    evidence: Evidence,
    metric: Metric,
    system: System,
) -> bool:
    """Whether the metric of the adapter and of a system were computed in the same way."""
    own = signature_of(
        evidence,
        metric,
        "adapter",
    )
    return own == signature_of(
        evidence,
        metric,
        system,
    )
