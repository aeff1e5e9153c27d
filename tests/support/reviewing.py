"""People who rate in MLflow, by its REST interface or straight in its database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from pipelines.rating.collect import SAFE, SCORE
from pipelines.rating.plan import ReviewPlan, parse_plan
from registry.ledger.ledger import open_ledger
from tests.support.ratings import Opinion
from tests.support.waiting import SECONDS_AT_MOST

PEOPLE = """\
people:
  ann: {mlflow: [ann], roles: [reviewer]}
  bob: {mlflow: [bob], roles: [reviewer]}
  eve: {mlflow: [eve], roles: [reviewer]}
  olga: {mlflow: [olga], roles: [approver]}
command_line: [author, release_manager]
"""


def sealed_plan(home: Path, model: str, version: str = "1") -> ReviewPlan:
    """What only the owner of the home can read."""
    ledger = open_ledger(home)
    review = ledger.state().reviews_of(model, version)[-1]
    plan = parse_plan(ledger.recall(review.plan_sha256) or "")
    assert plan is not None
    return plan


def send_rating(
    url: str,
    login: tuple[str, str],
    item: str,
    question: str,
    answer: object,
    **claims: Any,
) -> httpx.Response:
    """What MLflow's page sends for one question, with whatever else a caller may claim.

    `as_user` is the source that the call names, by default whose login it is.
    """
    source = {"source_type": "HUMAN", "source_id": claims.pop("as_user", login[0])}
    assessment = {
        "assessment_name": question,
        "trace_id": item,
        "source": source,
        "feedback": {"value": answer},
        **claims,
    }
    return httpx.post(
        f"{url}/api/3.0/mlflow/traces/{item}/assessments",
        json={"assessment": assessment},
        auth=login,
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )


def rate_over_http(
    url: str,
    login: tuple[str, str],
    item: str,
    answers: Mapping[str, object],
    **claims: Any,
) -> None:
    """Send the answers to an item's questions, which the server has to take."""
    for question, answer in answers.items():
        sent = send_rating(url, login, item, question, answer, **claims)
        assert sent.status_code == httpx.codes.OK, sent.text


def write(uri: str, item: str, by: str, answers: Mapping[str, object]) -> None:
    """What MLflow's page writes where somebody answers its questions."""
    from mlflow.entities import AssessmentSource, Feedback
    from mlflow.tracing.client import TracingClient

    for question, answer in answers.items():
        feedback = Feedback(
            name=question,
            value=answer,  # type: ignore[arg-type] # also what is no answer
            source=AssessmentSource("HUMAN", by),
            trace_id=item,
        )
        TracingClient(uri).log_assessment(item, feedback)


def write_all(uri: str, plan: ReviewPlan, **opinions: Opinion) -> None:
    """Each of these people rates every item."""
    # As the page does: the score as the text of the option.
    for by, opinion in opinions.items():
        for item in plan.items:
            score, is_safe = opinion(item)
            write(uri, item.id, by, {SCORE: str(score), SAFE: is_safe})
