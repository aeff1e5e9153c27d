"""What a person reads on a version's page and in its model card.

The verdict's table, its reasons, and where all of it came from.
"""

from core.value import Value
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import DatasetVersion
from pipelines.values.evidence import Adapter, MetricScore, Scorecard
from pipelines.values.serving_spec import ServingSpec
from pipelines.values.verdict import Finalist, Finding, Rejection, Undecided
from registry.mlflow.recorded import WORKSPACE

Verdict = Finalist | Rejection | Undecided
_MARKS = {
    "passed": "✅",
    "rejected": "❌",
    "undecided": "❔",
}
# Findings quote people's data, and MLflow renders a page as Markdown.
_ENTITIES = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "&#124;",
    "\n": " ",
}
_END_OF_DESK = "[//]: # (end of what changes)"
_LONGEST_DESK = 3000
_LONGEST_PAGE = 5000
"""What MLflow keeps of a version's description."""
_TO_ENTITIES = str.maketrans(_ENTITIES)


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
    elsewhere: str | None = None
    """What is said of an adapter that Assay did not train; None of any other."""
    prompt: str | None = None
    """What is said of a prompt, which nobody trained; None of an adapter."""

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
        if self.elsewhere is not None:
            tags["assay.trained"] = "elsewhere"
        if self.prompt is not None:
            tags["assay.trained"] = "prompt"
        # A run that `admit` ended has no base yet.
        if self.base is not None:
            tags["assay.base_digest"] = self.base.digest
            tags["assay.base_id"] = self.base.id
        return tags


def describe(verdict: Verdict, scorecard: Scorecard | None, lineage: Lineage) -> str:
    """Write Markdown for a version's page, or for that of a run that was refused."""
    # Verdict and scores come first: that is what a reader looks for.
    parts = [f"**{headline(verdict)}**"]
    if scorecard is not None:
        parts.append(score_table(scorecard))
        parts.append(_describe_configuration(scorecard.spec))
    parts.append(_list_findings(verdict.findings))
    parts.append(_describe_lineage(lineage))
    return "\n\n".join(parts) + "\n"


def model_card(finalist: Finalist, scorecard: Scorecard, lineage: Lineage) -> str:
    """Write the model card that is registered with the adapter."""
    adapter, base = scorecard.adapter, lineage.base
    kind = "LoRA adapter" if adapter.prompt is None else "Prompt"
    note = f" {base.note}" if base and base.note else ""
    text = [
        f"# {kind} for {adapter.base_id}",
        f"Base model `{adapter.base_id}`, digest `{adapter.base_digest[:16]}`.{note}",
        *_describe_training(adapter, lineage),
        "## How it was judged",
        describe(finalist, scorecard, lineage),
        # A reader of a card must see what the verdict does not cover.
        "## Limits",
        *describe_limits(scorecard),
    ]
    return "\n\n".join(text) + "\n"


def describe_limits(scorecard: Scorecard) -> tuple[str, str]:
    """What a good verdict does not say, in two paragraphs."""
    drawn = scorecard.sampled_as
    decoding = "the greedy decoding"
    if drawn is not None:
        decoding = f"the {drawn.samples} answers at temperature {drawn.temperature:g}"
    was_probed = scorecard.safety is not None or scorecard.wording is not None
    # What the probes found stands among the rules above, and only what they ask was measured.
    unmeasured = "Personal data, toxicity and safety were not measured"
    if was_probed:
        unmeasured = (
            "Personal data, and safety beyond the probes above, were not measured"
        )
    return (
        f"The scores hold for the held-out prompts named above and {decoding} that produced them.",
        f"{unmeasured}. Nothing was rated by people.",
    )


def _describe_training(adapter: Adapter, lineage: Lineage) -> list[str]:
    """Rank and scale, and on what it was trained, where that is known."""
    if adapter.lora is None:
        return [escape(lineage.prompt or "Nothing was trained.")]
    size = f"Rank {adapter.lora.r}, alpha {adapter.lora.alpha:g}"
    if lineage.elsewhere is not None:
        # Of its training nobody here knows more than its files say.
        return [f"{size}.", escape(lineage.elsewhere)]
    dataset = lineage.dataset
    rows = dataset.rows.get("train", 0)
    steps = f"{adapter.steps} steps in {adapter.precision}, step {adapter.best_step}"
    source = f"`{dataset.source}` (licence {dataset.licence})"
    return [f"{size}; {steps}.", f"Trained on {rows} rows of {source}."]


def headline(verdict: Verdict) -> str:
    """Say the verdict in one sentence."""
    if isinstance(verdict, Finalist):
        return (
            "Passed screen: better than every comparator on the primary metric, "
            "not worse on any guardrail."
        )
    # How many and not which: the list of findings names them.
    total = len(verdict.findings)
    failed = sum(finding.outcome != "passed" for finding in verdict.findings)
    return (
        f"{verdict.verdict.capitalize()} by {verdict.gate}: "
        f"{failed} of {total} rules did not pass."
    )


def score_table(scorecard: Scorecard) -> str:
    """Write systems as columns, metrics as rows, each with its 95 % interval."""
    systems = scorecard.systems
    names = " | ".join(score.system for score in systems)
    rule = " --- |" * len(systems)
    lines = [f"| metric | {names} |", f"| --- |{rule}"]
    # Every system was scored by the same metrics: the first one's give the rows.
    for metric in systems[0].metrics:
        arrow = "↑" if metric.higher_is_better else "↓"
        scores = [format_score(score.metric(metric.name)) for score in systems]
        cells = " | ".join(scores)
        lines.append(f"| {metric.name} {arrow} | {cells} |")
    lines.append("")
    lines.append(
        f"{scorecard.prompts} held-out prompts in {scorecard.clusters} clusters; "
        "95 % intervals by cluster bootstrap."
    )
    for note in inapplicable_notes(scorecard):
        lines += ["", escape(note)]
    return "\n".join(lines)


def inapplicable_notes(scorecard: Scorecard) -> list[str]:
    """Say of each metric that does not apply to these references why it does not."""
    # References are the same for every system: the first one's notes are those of all.
    return [
        f"{metric.name} does not apply: {metric.inapplicable}."
        for metric in scorecard.systems[0].metrics
        if metric.inapplicable is not None
    ]


def format_score(metric: MetricScore) -> str:
    """Write a score with its interval, to the digits that its size deserves."""
    # A number would be read as one that means something.
    if metric.inapplicable is not None:
        return "does not apply"
    interval = metric.interval
    # BLEU and chrF go to 100, other metrics are near 1: three digits of 57.3 would be noise.
    digits = 1 if abs(interval.high) >= 10 else 3
    estimate = f"{interval.estimate:.{digits}f}"
    low = f"{interval.low:.{digits}f}"
    high = f"{interval.high:.{digits}f}"
    return f"{estimate} [{low}, {high}]"


def _describe_configuration(spec: ServingSpec) -> str:
    """The configuration that the numbers hold for."""
    engine = f"{spec.engine} {spec.engine_version}"
    precision = spec.precision
    tokens = spec.default_max_tokens
    # Under another engine or precision the same weights give other answers.
    how = ", ".join(
        (
            f"{engine} in {precision}",
            f"{tokens} tokens an answer at most",
        )
    )
    fingerprint = spec.fingerprint
    return f"Scored as `{fingerprint}` ({how}): only this configuration is served."


def _list_findings(findings: tuple[Finding, ...]) -> str:
    lines = [
        f"- {_MARKS[finding.outcome]} {escape(finding.text)}" for finding in findings
    ]
    return "\n".join(lines)


def _describe_lineage(lineage: Lineage) -> str:
    dataset = lineage.dataset
    source, licence = escape(dataset.source), escape(str(dataset.licence))
    policy = f"{escape(lineage.policy_name)} (`{lineage.policy_sha256[:16]}`)"
    record = f"refs/assay/runs/{lineage.run_id}/done"
    params, logical_run = lineage.params_sha256[:16], lineage.logical_run[:16]
    rows = []
    if lineage.elsewhere is not None:
        rows.append(f"- {escape(lineage.elsewhere)}")
    if lineage.prompt is not None:
        rows.append(f"- {escape(lineage.prompt)}")
    rows += [
        f"- data: `{source}`, md5 `{dataset.md5}`, licence {licence}",
        f"- code: git `{lineage.git_commit}`; the run's own record is `{record}`",
        f"- policy {policy} admitted the data and screened the scores",
        f"- params `{params}`, logical run `{logical_run}`",
    ]
    if lineage.base is not None:
        base_id, digest = escape(lineage.base.id), lineage.base.digest[:16]
        rows.append(f"- base model: {base_id}, digest `{digest}`")
    return "Lineage\n\n" + "\n".join(rows)


def begin_with(text: str, description: str) -> str:
    """A page that begins with that text, in place of what it began with before.

    What is too long for MLflow is cut from the end of the card, whose whole is in the run.
    """
    # A line of Markdown that is not shown.
    _, is_there, card = description.partition(_END_OF_DESK)
    rest = card if is_there else f"\n\n---\n\n{description}"
    # The mark must never be cut: the next text would take this one for the card.
    desk = text.rstrip()
    beginning = desk[:_LONGEST_DESK]
    page = f"{beginning}\n\n{_END_OF_DESK}{rest}"
    return page[:_LONGEST_PAGE]


def escape(text: str) -> str:
    """Show data as text on one line: no markup, no HTML, no table cell."""
    return text.translate(_TO_ENTITIES)
