"""What a person sees: a line a stage, the verdict's table, and the same in Prefect's UI."""

import sys

from core.address import without_secrets
from core.console import duration, say
from flows.run.outcome import Outcome
from flows.run.reproduce import StageRun
from pipelines.values.verdict import Finding
from registry.mlflow.card import format_score, score_table

_MARKS = {"passed": "✓", "rejected": "✗", "undecided": "?"}


def stage_line(run: StageRun) -> None:
    """What the stage was, how long it took, the figure that matters."""
    first, *more = run.summary.splitlines() or [""]
    how = "cached" if run.cached else duration(run.seconds)
    waited = " (waited for another run's)" if run.waited else ""
    say(f"  {run.stage:<17}{how:>8}  {first}{waited}")
    for line in more:
        say(f"  {'':<17}{'':>8}  {line}")


def show(outcome: Outcome, mlflow_uri: str) -> None:
    """The verdict with its table and its reasons."""
    say("")
    if outcome.scorecard is not None:
        _table(outcome)
    say_findings(outcome.findings)
    say("")
    say(f"{outcome.result} (MLflow run {outcome.run_id} at {mlflow_uri}).")
    if outcome.version and not outcome.is_champion:
        say(f"Next: assay promote {outcome.version} --model {outcome.model} --reason …")


def say_findings(findings: tuple[Finding, ...]) -> None:
    """A line a rule: how it came out, and why."""
    for finding in findings:
        say(f"  {_MARKS[finding.outcome]} {finding.text}")


def publish(outcome: Outcome, mlflow_uri: str) -> None:
    """Artifacts of the flow run: the verdict's table, its reasons and where its record is."""
    from prefect.artifacts import create_markdown_artifact

    reasons = "\n".join(
        f"- {_MARKS[finding.outcome]} {finding.text}" for finding in outcome.findings
    )
    table = (
        score_table(outcome.scorecard) if outcome.scorecard else "Nothing was trained."
    )
    record = f"MLflow run `{outcome.run_id}` at `{mlflow_uri}`, version {outcome.version or 'none'}."
    text = without_secrets(
        f"# {outcome.word}\n\n{outcome.result}.\n\n{table}\n\n{reasons}\n\n{record}\n"
    )
    create_markdown_artifact(
        key="verdict", markdown=text, description=f"{outcome.verdict} by {outcome.gate}"
    )


def publish_text(key: str, text: str, description: str) -> None:
    """An artifact of the flow run that is only words."""
    from prefect.artifacts import create_markdown_artifact

    create_markdown_artifact(
        key=key, markdown=without_secrets(text), description=description[:500]
    )


def run_link() -> str:
    """Where this flow run is in the Prefect UI."""
    from prefect import runtime

    return link_to(str(runtime.flow_run.id))


def link_to(flow_run_id: str) -> str:
    """Where a flow run is in the Prefect UI."""
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    return f"{settings.ui_url or (settings.api.url or '').removesuffix('/api')}/runs/flow-run/{flow_run_id}"


def mlflow_link(uri: str, run_id: str) -> str:
    """Where a run is in MLflow's pages; without a server, which run it is and in what database."""
    return (
        f"{uri}/#/runs/{run_id}" if uri.startswith("http") else f"run {run_id} at {uri}"
    )


def rename_run(outcome: Outcome) -> None:
    """Put the result into the flow run's name: data, base and what it came to."""
    from prefect import runtime
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        client.update_flow_run(
            runtime.flow_run.id, name=f"{runtime.flow_run.name} → {outcome.word}"
        )


def _table(outcome: Outcome) -> None:
    from rich.console import Console
    from rich.table import Table

    card = outcome.scorecard
    if card is None:
        return
    table = Table(
        title=f"{card.prompts} held-out prompts in {card.clusters} clusters, 95 % intervals",
        title_justify="left",
    )
    table.add_column("metric")
    for system in card.systems:
        table.add_column(system.system, justify="right")
    for metric in card.systems[0].metrics:
        scores = [format_score(system.metric(metric.name)) for system in card.systems]
        table.add_row(
            f"{metric.name} {'↑' if metric.higher_is_better else '↓'}", *scores
        )
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for metric in card.systems[0].metrics:
        if metric.signature:
            say(f"  {metric.name}: {metric.signature}")
