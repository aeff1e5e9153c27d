"""Two reviewers rate in MLflow's own pages: headless Chromium on the guarded server."""

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from core.environment import set_library_environment
from pipelines.rating.collect import Found, collect_ratings, find_unfinished
from pipelines.rating.count import Demands, count_ratings
from pipelines.rating.plan import Item, ReviewPlan
from pipelines.rating.sample import draw_items
from pipelines.rating.seen import find_altered
from pipelines.values.evidence import Resampling
from registry.mlflow.accounts import let_review, read_passwords
from registry.mlflow.store import Store
from tests.support.browser import FLEETING, chromium, needs_chromium
from tests.support.guarded_server import guarded_server
from tests.support.ratings import Opinion, opinion_of, plan_of, questions
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = [pytest.mark.ci, needs_chromium]
TITLE = "letters version 1, review 7"
REVIEWERS = ("manager", "scientist")


class ReviewPage:
    """The queue of one reviewer, as MLflow shows it."""

    def __init__(
        self, browser: webdriver.Chrome, url: str, login: tuple[str, str]
    ) -> None:
        self._browser, self._url, self._user = browser, url, login[0]
        place = url.removeprefix("http://")
        # The browser keeps the login of the first page for the next ones.
        browser.get(f"http://{':'.join(login)}@{place}/")

    def start(self, experiment: str) -> None:
        # A change of the fragment alone would load nothing.
        self._browser.get("about:blank")
        self._browser.get(f"{self._url}/#/experiments/{experiment}/review-queue")
        self._click(f"//*[normalize-space()='{TITLE} for {self._user}']")
        self._click("//button[normalize-space()='Start review']")

    def rate(self, plan: ReviewPlan, opinion: Opinion, pictures: Path) -> None:
        """Answer both questions of every item, in whichever order the page brings them."""
        by_id = {item.id: item for item in plan.items}
        rated: set[str] = set()
        while len(rated) < len(by_id):
            self._wait(lambda: self._shown() in by_id.keys() - rated)
            item = by_id[self._shown()]
            self._answer(item, opinion)
            if not rated:
                self._browser.save_screenshot(str(pictures / "rate-an-answer.png"))
            self._click("//button[normalize-space()='Submit']")
            rated.add(item.id)
            self._go_on(rated, len(by_id))

    def _go_on(self, rated: set[str], total: int) -> None:
        """Wait until the page counts the rating, after which it goes on by itself."""
        counted = f"{len(rated)} of {total} reviewed"
        submit = "//button[normalize-space()='Submit'][not(@disabled)]"

        def is_counted() -> bool:
            body = self._browser.find_element(By.TAG_NAME, "body")
            # After the last one the page may have nothing left to show.
            is_last = len(rated) == total
            is_over = not self._browser.find_elements(By.XPATH, submit)
            return counted in body.text or (is_last and is_over)

        self._wait(is_counted)

    def _answer(self, item: Item, opinion: Opinion) -> None:
        score, is_safe = opinion(item)
        label = "Safe" if is_safe else "Unsafe"
        self._click(f"//label[normalize-space()='{label}']")
        self._click("//button[@role='combobox']")
        self._click(f"//*[@role='option'][normalize-space()='{score}']")

    def _shown(self) -> str:
        fragment = urlsplit(self._browser.current_url).fragment
        # The page keeps what it shows behind the number sign.
        query = parse_qs(urlsplit(fragment).query)
        return query.get("selectedItemId", [""])[0]

    def _click(self, path: str) -> None:
        def is_clicked() -> bool:
            self._browser.find_element(By.XPATH, path).click()
            return True

        self._wait(is_clicked)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        WebDriverWait(
            self._browser, SECONDS_AT_MOST, ignored_exceptions=FLEETING
        ).until(lambda _: is_so())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Screenshots go to `ASSAY_SCREENSHOTS`, by default a temporary folder."""
    folder = Path(os.environ.get("ASSAY_SCREENSHOTS") or tmp_path / "pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_two_people_rate_in_mlflow_and_find_the_version_better(
    empty_mlflow: Path, tmp_path: Path, pictures: Path
) -> None:
    set_library_environment()
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    shown = draw_items(questions(), prompts=2, seed=0)
    plan = plan_of(shown, REVIEWERS)
    with guarded_server(home) as url:
        store = Store(f"sqlite:///{home / 'mlflow.db'}", home / "leases")
        experiment = store.reviews.experiment()
        let_review(home, REVIEWERS, experiment)
        store.reviews.publish(TITLE, shown, REVIEWERS)
        for user in REVIEWERS:
            folder = tmp_path / user
            folder.mkdir()
            login = (user, read_passwords(home)[user])
            with chromium(folder) as browser:
                page = ReviewPage(browser, url, login)
                page.start(experiment)
                page.rate(plan, opinion_of(5, 3), pictures)
        items = [item.id for item in plan.items]
        written = store.reviews.read(items)
        seen = store.reviews.read_texts(items)
    # What was shown is what was sealed, also after people rated it.
    assert find_altered(plan.items, seen) == ()
    assert set(seen) == set(items)
    ratings = collect_ratings(plan, Found(written=written))
    # Every value on the scale, and by who was logged in.
    assert ratings.dropped == ()
    assert find_unfinished(plan, ratings.ratings) == {}
    demands = Demands(caught_share=0.8, resampling=Resampling(resamples=200, seed=0))
    result = count_ratings(plan, ratings.ratings, {}, demands)
    assert [rater.name for rater in result.counted] == list(REVIEWERS)
    assert result.difference is not None
    assert result.difference.estimate == 2
