"""Who wrote a rating on the server of `assay up` is who was logged in, over HTTP."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.environment import set_library_environment
from pipelines.rating.collect import SAFE, SCORE, Written
from pipelines.rating.sample import Shown, draw_items
from registry.mlflow.accounts import let_review, read_passwords
from registry.mlflow.store import Store
from tests.support.guarded_server import guarded_server
from tests.support.ratings import questions
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci


@dataclass(frozen=True)
class Site:
    """A review for `manager` and `scientist` that nobody has rated yet."""

    home: Path
    url: str
    store: Store
    shown: tuple[Shown, ...]

    def ask(self, user: str, method: str, path: str, **body: Any) -> httpx.Response:
        return httpx.request(
            method,
            f"{self.url}/api/{path}",
            json=body,
            auth=(user, read_passwords(self.home)[user]),
            timeout=SECONDS_AT_MOST,
            trust_env=False,
        )

    def rate(self, user: str, item: str, score: str, **more: Any) -> httpx.Response:
        """What MLflow's page sends, with a source of the caller's choice."""
        source = {"source_type": "HUMAN", "source_id": more.pop("as_user", user)}
        assessment = {
            "assessment_name": SCORE,
            "trace_id": item,
            "source": source,
            "feedback": {"value": score},
            **more,
        }
        path = f"3.0/mlflow/traces/{item}/assessments"
        return self.ask(user, "POST", path, assessment=assessment)

    def written(self, item: str) -> tuple[Written, ...]:
        return self.store.reviews.read([item])


@pytest.fixture(scope="module")
def site(
    empty_mlflow: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    set_library_environment()
    home = tmp_path_factory.mktemp("reviews") / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    with guarded_server(home) as url:
        store = Store(f"sqlite:///{home / 'mlflow.db'}", home / "leases")
        shown = draw_items(questions(), prompts=2, seed=0)
        let_review(home, ("manager", "scientist"), store.reviews.experiment())
        store.reviews.publish("letters", shown, ("manager", "scientist"))
        yield Site(home, url, store, shown)


def test_a_forged_source_becomes_the_account_that_was_logged_in(site: Site) -> None:
    item = site.shown[0].item.id
    # The page itself sends a source, which anybody may set.
    answer = site.rate("scientist", item, "1", as_user="manager")
    assert answer.status_code == httpx.codes.OK, answer.text
    (written,) = site.written(item)
    assert (written.by, written.answer, written.is_by_person) == (
        "scientist",
        "1",
        True,
    )


def test_nobody_changes_deletes_or_overrides_what_somebody_else_wrote(
    site: Site,
) -> None:
    item = site.shown[1].item.id
    made = site.rate("manager", item, "5").json()["assessment"]["assessment_id"]
    path = f"3.0/mlflow/traces/{item}/assessments/{made}"
    # Each of them would make the other rating another one, or none.
    change = {
        "assessment": {"feedback": {"value": "1"}},
        "update_mask": "feedback",
    }
    for answer in (
        site.ask("scientist", "PATCH", path, **change),
        site.ask("scientist", "DELETE", path),
        site.rate("scientist", item, "1", overrides=made),
    ):
        assert answer.status_code == httpx.codes.FORBIDDEN, answer.text
        assert "Somebody else wrote that rating" in answer.text
    assert [each.answer for each in site.written(item)] == ["5"]
    # People may correct themselves.
    again = site.rate("manager", item, "4", overrides=made)
    assert again.status_code == httpx.codes.OK, again.text
    assert [each.answer for each in site.written(item)] == ["4"]


def test_queues_questions_and_answers_are_kept_by_the_service_account(
    site: Site,
) -> None:
    experiment = site.store.reviews.experiment()
    item = site.shown[2].item.id
    attempts = (
        site.ask(
            "scientist",
            "POST",
            "3.0/mlflow/review-queues/create",
            experiment_id=experiment,
            name="mine",
            queue_type="CUSTOM",
        ),
        site.ask(
            "scientist",
            "POST",
            "3.0/mlflow/label-schemas/create",
            experiment_id=experiment,
            name=SAFE,
            type="FEEDBACK",
        ),
        site.ask(
            "scientist",
            "PATCH",
            f"3.0/mlflow/traces/{item}/tags",
            key="side",
            value="candidate",
        ),
        site.ask(
            "scientist",
            "POST",
            "3.0/mlflow/traces/delete-traces",
            experiment_id=experiment,
            request_ids=[item],
        ),
    )
    for attempt in attempts:
        assert attempt.status_code >= httpx.codes.BAD_REQUEST, attempt.text
    assert site.written(item) == ()


def test_a_user_whom_mlflow_does_not_know_is_named(site: Site) -> None:
    from core.errors import OperationError

    with pytest.raises(OperationError, match="MLflow has no user 'zoe'"):
        let_review(site.home, ("zoe",), site.store.reviews.experiment())
