"""What a person reads on a version's page and in its model card: the verdict's table, its reasons, and where all of it came from."""

from core.value import Value
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import DatasetVersion
from pipelines.values.evidence import MetricScore, Scorecard
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Finalist, Finding, Rejection, Undecided
from registry.mlflow.recorded import WORKSPACE

Verdict = Finalist | Rejection | Undecided


class Lineage(Value):
    """Everything that a version was made from."""

    dataset: DatasetVersion
    base: BaseModelManifest | None
    git_commit: str
    run_id: str
    logical_run: str
    params_sha256: str
    policy_sha256: str
    policy_name: str = ""

    def tags(self) -> dict[str, str]:
        """As tags, to be searched for in MLflow."""
        tags = {
            "assay.data_md5": self.dataset.md5,
            "assay.data_sha256": self.dataset.sha256,
            "assay.data_source": self.dataset.source,
            "assay.git_commit": self.git_commit,
            "assay.params_sha256": self.params_sha256,
            "assay.policy_sha256": self.policy_sha256,
            "assay.policy_name": self.policy_name or "unnamed",
            WORKSPACE: self.run_id,
        }
        return tags | (
            {"assay.base_digest": self.base.digest, "assay.base_id": self.base.id}
            if self.base
            else {}
        )


def describe(verdict: Verdict, scorecard: Scorecard | None, lineage: Lineage) -> str:
    """Markdown for the version's page, and for the page of a run that was rejected or undecided."""
    parts = [f"**{headline(verdict)}**", _findings(verdict.findings)]
    if scorecard is not None:
        parts[1:1] = [score_table(scorecard), _scored_as(scorecard.spec)]
    return "\n\n".join([*parts, _lineage(lineage)]) + "\n"


def model_card(finalist: Finalist, scorecard: Scorecard, lineage: Lineage) -> str:
    """The model card that is registered with the adapter."""
    adapter = scorecard.adapter
    dataset = lineage.dataset
    note = f" {lineage.base.note}" if lineage.base and lineage.base.note else ""
    text = [
        f"# LoRA adapter for {adapter.base_id}",
        f"Base model `{adapter.base_id}`, digest `{adapter.base_digest[:16]}`.{note}",
        f"Rank {adapter.lora.r}, alpha {adapter.lora.alpha:g}; {adapter.steps} steps in {adapter.precision}, step {adapter.best_step}.",
        f"Trained on {dataset.rows.get('train', 0)} rows of `{dataset.source}` (licence {dataset.licence}).",
        "## How it was judged",
        describe(finalist, scorecard, lineage),
        "## Limits",
        "The scores hold for the held-out prompts named above and the greedy decoding that produced them.",
        "Personal data, toxicity and safety were not measured. Nothing was rated by people.",
    ]
    return "\n\n".join(text) + "\n"


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    if isinstance(verdict, Finalist):
        return "Passed screen: better than every comparator on the primary metric, not worse on any guardrail."
    concerning = [
        finding for finding in verdict.findings if finding.outcome != "passed"
    ]
    return f"{verdict.verdict.capitalize()} by {verdict.gate}: {len(concerning)} of {len(verdict.findings)} rules did not pass."


def score_table(scorecard: Scorecard) -> str:
    """Systems as columns, metrics as rows, each with its 95 % interval."""
    systems = scorecard.systems
    lines = [
        "| metric | " + " | ".join(score.system for score in systems) + " |",
        "| --- |" + " --- |" * len(systems),
    ]
    for first in systems[0].metrics:
        cells = [format_score(score.metric(first.name)) for score in systems]
        lines.append(
            f"| {first.name} {'↑' if first.higher_is_better else '↓'} | "
            + " | ".join(cells)
            + " |"
        )
    lines += [
        "",
        f"{scorecard.prompts} held-out prompts in {scorecard.clusters} clusters; 95 % intervals by cluster bootstrap.",
    ]
    return "\n".join(lines)


def format_score(metric: MetricScore) -> str:
    """A score with its interval, to the digits that its size deserves."""
    interval = metric.interval
    digits = 1 if abs(interval.high) >= 10 else 3
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _scored_as(spec: ServingSpec) -> str:
    """The configuration that the numbers hold for."""
    how = f"{spec.engine} {spec.engine_version} in {spec.precision}, {spec.default_max_tokens} tokens an answer at most"
    return f"Scored as `{spec.fingerprint}` ({how}): only this configuration is served."


def _findings(findings: tuple[Finding, ...]) -> str:
    marks = {"passed": "✅", "rejected": "❌", "undecided": "❔"}
    return "\n".join(
        f"- {marks[finding.outcome]} {escape(finding.text)}" for finding in findings
    )


def _lineage(lineage: Lineage) -> str:
    dataset = lineage.dataset
    rows = [
        f"- data: `{escape(dataset.source)}`, md5 `{dataset.md5}`, licence {escape(str(dataset.licence))}",
        f"- code: git `{lineage.git_commit}`; the run's own record is `refs/assay/runs/{lineage.run_id}/done`",
        f"- policy {escape(lineage.policy_name)} (`{lineage.policy_sha256[:16]}`) admitted the data and screened the scores",
        f"- params `{lineage.params_sha256[:16]}`, logical run `{lineage.logical_run[:16]}`",
    ]
    if lineage.base is not None:
        rows.append(
            f"- base model: {escape(lineage.base.id)}, digest `{lineage.base.digest[:16]}`"
        )
    return "Lineage\n\n" + "\n".join(rows)


def escape(text: str) -> str:
    """Data shown as text: no markup, no HTML, no formula."""
    for character, entity in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ("|", "&#124;"),
    ):
        text = text.replace(character, entity)
    return text.replace("\n", " ")
