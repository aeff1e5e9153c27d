"""Numbers of a scorecard that MLflow shows as metrics of the run, to compare versions by."""

from pipelines.values.evidence import Scorecard


def extra_metrics(scorecard: Scorecard | None) -> dict[str, float]:
    """HumanEval's pass@k and the shares of the safety probes, by system; empty without them."""
    found: dict[str, float] = {}
    if scorecard is None:
        return found
    # By system behind the dot, so that MLflow draws them side by side.
    code, safety = scorecard.humaneval, scorecard.safety
    for share in code.shares if code else ():
        interval = share.interval
        name = f"humaneval_pass_at_{share.k}"
        found[f"{name}.{share.system}"] = interval.estimate
    for compared in safety.shares if safety else ():
        name = f"safety.{compared.quantity}"
        found[f"{name}.adapter"] = compared.own
        found[f"{name}.{compared.against}"] = compared.other
    return found
