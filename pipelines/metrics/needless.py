"""Settings that a metric does not need, since its defaults apply to the references."""

from pipelines.metrics.metric import Metric, References, ScoredRow
from pipelines.values.metric_settings import BleuSettings

# Parts of sacreBLEU's signature, and the fields that set them.
_FIELDS = {"tok": "tokenize", "eff": "effective_order"}


def needless_settings(
    metric: Metric, standard: Metric, references: References
) -> str | None:
    """Parts of the signature that `standard`, the metric under its defaults, does not have.

    None where there are none, and where the defaults do not apply to these references. It sees no
    answer: what an adapter says must not change how it is counted.
    """
    rows = [
        ScoredRow(prompt_id=str(number), prediction="", references=texts)
        for number, texts in enumerate(references)
    ]
    usual = standard.signature(rows).split("|")
    own = metric.signature(rows).split("|")
    parts = [part for part in own if part not in usual]
    if not parts or standard.inapplicable(references) is not None:
        return None
    return "|".join(parts)


def has_parts(signature: str, parts: str) -> bool:
    """Whether a signature, or what a policy pins of one, has each of these parts."""
    present = signature.split("|")
    listed = parts.split("|")
    asked = set(listed)
    return asked.issubset(present)


def describe_needless(metric: str, needless: str) -> str:
    """What was set without need, and what to do, without the full stop."""
    steps = []
    for part in needless.split("|"):
        name, _, _ = part.partition(":")
        step = _describe_default(metric, name)
        steps.append(step)
    listed = " and ".join(steps)
    return (
        f"{metric} is scored with {needless}, "
        "and its defaults apply to these references: "
        f"set {listed}, "
        f"or have the policy name {needless} in screen.signatures"
    )


def _describe_default(metric: str, name: str) -> str:
    # The one part that stands for a whole parameter.
    if name == "schema":
        return "score.json_schema to null"
    field = _FIELDS.get(name)
    section = f"score.{metric}"
    # A part that no setting of ours makes.
    if field is None:
        return f"{section} to its defaults"
    defaults = BleuSettings()
    default = getattr(defaults, field)
    # As YAML writes it.
    written = str(default).lower()
    return f"{section}.{field} to {written}"
