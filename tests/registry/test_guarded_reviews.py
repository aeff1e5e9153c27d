"""Who wrote a rating on the server of `assay up` is who was logged in, over HTTP."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.environment import set_library_environment
from core.errors import RegistryError
from pipelines.rating.collect import SAFE, SCORE, Found, Written, collect_ratings
from pipelines.rating.sample import Shown, draw_items
from pipelines.rating.seen import find_altered
from registry.mlflow.accounts import let_review, read_passwords, service_login
from registry.mlflow.store import Store
from tests.support.guarded_server import guarded_server
from tests.support.ratings import plan_of, questions
from tests.support.reviewing import send_rating
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

    def rate(self, user: str, item: str, score: str, **claims: Any) -> httpx.Response:
        login = (user, read_passwords(self.home)[user])
        return send_rating(self.url, login, item, SCORE, score, **claims)

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
    # Nor does who wrote it: after the review's end nothing would be left.
    for answer in (
        site.ask("manager", "PATCH", path, **change),
        site.ask("manager", "DELETE", path),
    ):
        assert answer.status_code == httpx.codes.FORBIDDEN, answer.text
        assert "A rating stays on record" in answer.text
    assert [each.answer for each in site.written(item)] == ["5"]


def test_a_correction_counts_until_the_end_and_takes_no_earlier_rating_away(
    site: Site,
) -> None:
    shown = site.shown[3]
    item = shown.item.id
    made = site.rate("manager", item, "5").json()["assessment"]["assessment_id"]
    # As the page corrects what was submitted.
    again = site.rate("manager", item, "4", overrides=made)
    assert again.status_code == httpx.codes.OK, again.text
    both = site.written(item)
    assert [each.answer for each in both] == ["5", "4"]
    plan = plan_of(site.shown, ("manager", "scientist"))
    said = {"question": SAFE, "answer": True, "at_ms": both[0].at_ms - 1000}
    safe = both[0].model_copy(update=said)

    def counted(end_ms: int, *written: Written) -> list[int]:
        closes_at = datetime.fromtimestamp(end_ms / 1000, UTC)
        ended = plan.model_copy(update={"closes_at": closes_at})
        found = collect_ratings(ended, Found(written=(safe, *written)))
        return [rating.score for rating in found.ratings]

    corrected_at = both[1].at_ms
    assert counted(corrected_at, *both) == [4]
    # What MLflow calls invalid since was rated in time.
    earlier = both[0].model_copy(update={"at_ms": corrected_at - 10})
    assert counted(corrected_at - 5, earlier, both[1]) == [5]
    # A correction that is off the scale is none.
    last = again.json()["assessment"]["assessment_id"]
    site.rate("manager", item, "9", overrides=last)
    everything = site.written(item)
    assert counted(everything[-1].at_ms, *everything) == [4]


def test_a_rating_has_the_time_of_the_server_whatever_the_call_says(site: Site) -> None:
    item = site.shown[4].item.id
    before = time.time_ns() // 10**6
    long_ago = "2020-01-01T00:00:00Z"
    claims = {"create_time": long_ago, "last_update_time": long_ago}
    answer = site.rate("scientist", item, "5", **claims)
    assert answer.status_code == httpx.codes.OK, answer.text
    (written,) = site.written(item)
    assert written.at_ms >= before


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


def test_a_review_is_published_through_the_server_by_the_service_account_alone(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = draw_items(questions(), prompts=2, seed=1)
    remote = Store(site.url, site.home / "leases")

    def publish() -> None:
        remote.reviews.publish("through the server", shown, ("manager",))

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "scientist")
    monkeypatch.setenv(
        "MLFLOW_TRACKING_PASSWORD", read_passwords(site.home)["scientist"]
    )
    with pytest.raises(RegistryError, match="403"):
        publish()
    for name, value in service_login(site.home).items():
        monkeypatch.setenv(name, value)
    publish()
    items = [each.item for each in shown]
    texts = remote.reviews.read_texts([item.id for item in items])
    assert len(texts) == len(items)
    assert find_altered(items, texts) == ()


def test_a_user_whom_mlflow_does_not_know_is_named(site: Site) -> None:
    from core.errors import OperationError

    with pytest.raises(OperationError, match="MLflow has no user 'zoe'"):
        let_review(site.home, ("zoe",), site.store.reviews.experiment())
