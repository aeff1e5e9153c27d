"""What a person sees of a run: a line a stage, the verdict's table, and both in Prefect's UI."""

import sys

from core.address import redact_secrets
from core.console import duration, say
from flows.run.outcome import Outcome
from flows.run.reproduce import GATES, StageRun
from pipelines.values.conformance import Conformance
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import Finding
from registry.mlflow.card import format_score, inapplicable_notes, score_table

_MARKS = {
    "passed": "✓",
    "rejected": "✗",
    "undecided": "?",
}

_INDENT = " " * 29
"""As wide as a stage's name and its time."""
_ORDER = ("rejected", "undecided", "passed")


def print_stage(run: StageRun) -> None:
    """Print a stage, how long it took, and the figure that matters."""
    lines = run.summary.splitlines() or [""]
    # A gate's reasons stand at the end of the run, where a person looks for them.
    if run.stage in GATES:
        lines = lines[:1]
    took = "cached" if run.cached else duration(run.seconds)
    waited = " (waited for another run's)" if run.waited else ""
    margin = f"  {run.stage:<17}{took:>8}  "
    say(f"{margin}{lines[0]}{waited}")
    # Further lines of the summary begin below the first one.
    _say_indented(lines[1:])


def print_base_check(conformance: Conformance) -> None:
    """Print what the check saw of the base model, below the line of its stage."""
    _say_indented(conformance.text.splitlines())


def show(outcome: Outcome, mlflow_uri: str) -> None:
    """Print the verdict with its table, its reasons and the next step."""
    say("")
    if outcome.scorecard is not None:
        _print_table(outcome.scorecard)
    say_findings(outcome.findings)
    say("")
    say(f"{outcome.result} (MLflow run {outcome.run_id} at {mlflow_uri}).")
    if outcome.version and not outcome.is_champion:
        say(f"Next: assay promote {outcome.version} --model {outcome.model} --reason …")


def say_findings(findings: tuple[Finding, ...]) -> None:
    """Print a line for each rule, what decided first: its outcome, and why."""
    for finding in sorted(findings, key=lambda finding: _ORDER.index(finding.outcome)):
        mark = _MARKS[finding.outcome]
        say(f"  {mark} {finding.text}")


def publish(outcome: Outcome, mlflow_uri: str) -> None:
    """Show the verdict's table, its reasons and its record on the flow run's page."""
    # A run that `admit` ended has no scores.
    table = "Nothing was trained."
    if outcome.scorecard is not None:
        table = score_table(outcome.scorecard)
    marked = [f"- {_MARKS[each.outcome]} {each.text}" for each in outcome.findings]
    version = outcome.version or "none"
    record = f"MLflow run `{outcome.run_id}` at `{mlflow_uri}`, version {version}."
    parts = [
        f"# {outcome.word}",
        f"{outcome.result}.",
        table,
        "\n".join(marked),
        record,
    ]
    text = "\n\n".join(parts) + "\n"
    publish_text("verdict", text, f"{outcome.verdict} by {outcome.gate}")


def publish_text(key: str, text: str, description: str) -> None:
    """Show Markdown on the flow run's page, without secrets."""
    from prefect.artifacts import create_markdown_artifact

    shown = redact_secrets(text)
    create_markdown_artifact(
        key=key,
        markdown=shown,
        description=description[:500],
    )


def run_link() -> str:
    """Address of this flow run in the Prefect UI."""
    from prefect import runtime

    return link_to(str(runtime.flow_run.id))


def link_to(flow_run_id: str) -> str:
    """Address of a flow run in the Prefect UI."""
    from prefect.settings import get_current_settings

    # The pages may have another address than the API.
    settings = get_current_settings()
    api = settings.api.url or ""
    pages = settings.ui_url or api.removesuffix("/api")
    return f"{pages}/runs/flow-run/{flow_run_id}"


def mlflow_link(uri: str, run_id: str) -> str:
    """Address of a run in MLflow's pages; without a server, the run and its database."""
    if uri.startswith("http"):
        return f"{uri}/#/runs/{run_id}"
    return f"run {run_id} at {uri}"


def rename_run(outcome: Outcome) -> None:
    """Put the outcome into the flow run's name, beside data and base."""
    from prefect import runtime
    from prefect.client.orchestration import get_client

    run = runtime.flow_run
    # The name is what Prefect's list of runs shows.
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, name=f"{run.name} → {outcome.word}")


def _say_indented(lines: list[str]) -> None:
    for line in lines:
        say(f"{_INDENT}{line}")


def _print_table(card: Scorecard) -> None:
    from rich.console import Console
    from rich.table import Table

    title = (
        f"{card.prompts} held-out prompts in {card.clusters} clusters, 95 % intervals"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    # A column for each system, since people compare along a line.
    for system in card.systems:
        table.add_column(system.system, justify="right")
    metrics = card.systems[0].metrics
    for metric in metrics:
        arrow = "↑" if metric.higher_is_better else "↓"
        scores = [format_score(system.metric(metric.name)) for system in card.systems]
        table.add_row(f"{metric.name} {arrow}", *scores)
    # A log has no width: the table must not be folded there.
    width = None if sys.stdout.isatty() else 160
    Console(file=sys.stdout, width=width).print(table)
    for metric in metrics:
        if metric.signature:
            say(f"  {metric.name}: {metric.signature}")
    for note in inapplicable_notes(card):
        say(f"  {note}")
