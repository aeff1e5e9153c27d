"""Dashboard, alerts and the example of rules fit what the endpoint really prints and reads."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel, ConfigDict, Field

from serving.endpoint.rules import EndpointRules, read_rules
from serving.feedback_schema import Rating
from serving.observing.figures import EngineFigures, Figures, Share, Source
from serving.observing.metrics import Metrics
from serving.observing.observer import Observer
from serving.observing.origin import Origin
from tests.support.exchanges import completed

FOLDER = Path(__file__).parents[1] / "infra/observe"
ALERTS, DASHBOARD = FOLDER / "alerts.yaml", FOLDER / "grafana.json"
# What a query may name beside our own labels: Prometheus gives the first two, and buckets have le.
_GIVEN = {"job", "instance", "le"}
_FUNCTIONS = {"sum", "rate", "increase", "histogram_quantile", "deriv", "changes"}


class Rule(BaseModel):
    """As Prometheus reads one: `rulefmt.Rule`, without recording rules."""

    model_config = ConfigDict(extra="forbid")

    alert: Annotated[str, Field(pattern=r"^Assay[A-Za-z]+$")]
    expr: Annotated[str, Field(min_length=1)]
    for_: Annotated[str, Field(alias="for", pattern=r"^\d+[smhd]$")] = "0s"
    labels: dict[str, str]
    annotations: dict[str, str]


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    rules: list[Rule]


class RuleFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    groups: list[Group]


def printed() -> dict[str, set[str]]:
    """Every series that an endpoint with everything on prints, with its labels."""
    engine = EngineFigures("m", "3", "release", True, False, requests=0, ends=0, pid=0)
    figures = Figures(engines=(engine,), shares=(Share("m", "3", 100.0),))
    observer = Observer(Source(lambda: figures, lambda _: True))
    completed(observer, "m", "text")
    completed(observer, "m", "text", stream=True)
    completed(observer, "m", "text", status=503, fallback="template")
    observer.rate(Rating(id="x", score=1), Origin("m", "3", "f"))
    observer.metrics.count_rows("requests", 1)
    observer.metrics.count_dropped("requests", "disk")
    return labels_of(observer.metrics)


def labels_of(metrics: Metrics) -> dict[str, set[str]]:
    series: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.expose().decode()):
        for sample in family.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def alert_expressions() -> list[str]:
    rules = RuleFile.model_validate(yaml.safe_load(ALERTS.read_text()))
    return [rule.expr for group in rules.groups for rule in group.rules]


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return content


def dashboard_expressions() -> list[str]:
    panels = dashboard()["panels"]
    targets = [target for panel in panels for target in panel["targets"]]
    queries = [each["query"] for each in dashboard()["templating"]["list"]]
    annotations = [each["expr"] for each in dashboard()["annotations"]["list"]]
    return [
        *(target["expr"] for target in targets),
        *(query for query in queries if "(" in query),
        *annotations,
    ]


@pytest.mark.parametrize(
    "expressions",
    [alert_expressions(), dashboard_expressions()],
    ids=["alerts", "grafana"],
)
def test_every_metric_and_label_of_a_query_is_printed(expressions: list[str]) -> None:
    series = printed()
    labels = {label for names in series.values() for label in names} | _GIVEN
    assert expressions
    for expression in expressions:
        names = re.findall(r"\b(assay_\w+|up)\b", expression)
        assert names, expression
        assert set(names) <= {*series, "up"}, expression
        groups = re.findall(r"by \(([^)]*)\)", expression)
        named = {label.strip() for group in groups for label in group.split(",")}
        named |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
        assert named <= labels, expression
        assert expression.count("(") == expression.count(")"), expression
        functions = set(re.findall(r"\b([a-z_]+) ?\(", expression)) - {"by", "and"}
        assert functions <= _FUNCTIONS | {"label_values"}, expression


def test_everything_that_is_printed_is_on_the_dashboard() -> None:
    shown = " ".join(dashboard_expressions())
    ends = r"_(created|bucket|sum|count)$"
    printed_names = {re.sub(ends, "", name) for name in printed()}
    assert {name for name in printed_names if name not in shown} == set()


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    rules = RuleFile.model_validate(yaml.safe_load(ALERTS.read_text()))
    for rule in rules.groups[0].rules:
        assert set(rule.annotations) == {"summary", "action"}
        assert rule.labels["severity"] in {"page", "ticket"}


def test_the_dashboard_has_panels_that_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    places: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        for x in range(grid["x"], grid["x"] + grid["w"]):
            for y in range(grid["y"], grid["y"] + grid["h"]):
                assert x < 24
                assert (x, y) not in places, panel["title"]
                places.add((x, y))
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_example_of_rules_is_read_and_switches_everything_on() -> None:
    rules = read_rules(FOLDER / "endpoint-rules.yaml")
    assert {*rules.model_fields_set} == {*EndpointRules.model_fields}
    assert not rules.guardrails.request.is_empty
    assert rules.guardrails.response.compiled()
