"""Two reviewers rate in MLflow's own pages, and what they find decides: headless Chromium."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from pipelines.rating.collect import SAFE, SCORE
from pipelines.rating.plan import ReviewPlan
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import let_review, read_passwords, service_login
from tests.support.browser import FLEETING, chromium, needs_chromium
from tests.support.guarded_server import guarded_server
from tests.support.journey import Checkout, CommandResult, copy_checkout, invoke
from tests.support.promoted import MODEL
from tests.support.ratings import Opinion, opinion_of
from tests.support.reviewing import rate_over_http, sealed_plan
from tests.support.waiting import SECONDS_AT_MOST

# Minutes of clicks: what the pages send is tested over HTTP with every change.
pytestmark = [pytest.mark.slow, needs_chromium]
REVIEWERS = ("manager", "scientist")
SUBMIT = "//button[normalize-space()='Submit'][not(@disabled)]"
SECONDS_TO_DRAW = 20.0
"""For the page to show what was clicked; after that it is clicked again."""
PEOPLE = """\
people:
  rita: {mlflow: [manager], roles: [reviewer]}
  sven: {mlflow: [scientist], roles: [reviewer]}
command_line: [author, release_manager]
"""
LIMITS = {
    # Ten prompts are as few as any policy lets pass, and show a share of 0.69 where all are safe.
    "{required: true, min_raters: 3}": "{required: true, min_raters: 2, "
    "min_safe_share: 0.6, max_reviews: 3}",
    "approvals: 1": "approvals: 0",
}
BETTER, WORSE = opinion_of(5, 2), opinion_of(2, 5)


class ReviewPage:
    """The queue of one reviewer, as MLflow shows it."""

    def __init__(
        self, browser: webdriver.Chrome, url: str, login: tuple[str, str]
    ) -> None:
        self._browser, self._url, self._user = browser, url, login[0]
        place = url.removeprefix("http://")
        # The browser keeps the login of the first page for the next ones.
        browser.get(f"http://{':'.join(login)}@{place}/")

    def start(self, experiment: str, title: str) -> None:
        # A change of the fragment alone would load nothing.
        self._browser.get("about:blank")
        self._browser.get(f"{self._url}/#/experiments/{experiment}/review-queue")
        self._click(f"//*[normalize-space()='{title} for {self._user}']")
        self._click("//button[normalize-space()='Start review']")

    def rate(self, plan: ReviewPlan, opinion: Opinion, pictures: Path) -> None:
        """Answer both questions of every item, in whichever order the page brings them."""
        by_id = {item.id: item for item in plan.items}
        rated: set[str] = set()
        while len(rated) < len(by_id):
            self._wait(lambda: self._shown() in by_id.keys() - rated)
            item = by_id[self._shown()]
            score, is_safe = opinion(item)
            label = "Safe" if is_safe else "Unsafe"
            self._wait(partial(self._is_answered, label, score))
            if not rated:
                self._browser.save_screenshot(str(pictures / "rate-an-answer.png"))
            rated.add(item.id)
            places = (item.id, len(rated), len(by_id))
            self._wait(partial(self._is_counted, *places, label, score))

    def _is_answered(self, label: str, score: int) -> bool:
        """Answer both questions; whether the page takes the answers now.

        A page that draws itself anew forgets what was chosen, and takes nothing then.
        """
        if self._browser.find_elements(By.XPATH, SUBMIT):
            return True
        self._find(f"//label[normalize-space()='{label}']").click()
        option = f"//*[@role='option'][normalize-space()='{score}']"
        if not self._browser.find_elements(By.XPATH, option):
            self._find("//button[@role='combobox']").click()
        with suppress(TimeoutException):
            self._wait(lambda: bool(self._find(option)), SECONDS_TO_DRAW)
            self._find(option).click()
        return False

    def _is_counted(
        self, item: str, rated: int, total: int, label: str, score: int
    ) -> bool:
        """Submit what is chosen; whether the page counts it, after which it goes on by itself."""
        counted = f"{rated} of {total} reviewed"
        if counted in self._text():
            return True
        if self._shown() != item or not self._is_answered(label, score):
            return False
        self._find(SUBMIT).click()

        def is_taken() -> bool:
            # After the last one the page may have nothing left to show.
            is_over = not self._browser.find_elements(By.XPATH, SUBMIT)
            return counted in self._text() or (rated == total and is_over)

        # Time to count it, before it is submitted once more.
        with suppress(TimeoutException):
            self._wait(is_taken, SECONDS_TO_DRAW)
            return True
        return False

    def _find(self, path: str) -> WebElement:
        return self._browser.find_element(By.XPATH, path)

    def _text(self) -> str:
        return self._browser.find_element(By.TAG_NAME, "body").text

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

    def _wait(
        self, is_so: Callable[[], bool], seconds: float = SECONDS_AT_MOST
    ) -> None:
        WebDriverWait(self._browser, seconds, ignored_exceptions=FLEETING).until(
            lambda _: is_so()
        )


@dataclass(frozen=True)
class Site:
    """A judged version, the guarded server that holds its records, and two who may rate it."""

    checkout: Checkout
    url: str
    experiment: str

    def review(self, *words: str) -> CommandResult:
        verb, *more = words
        return invoke(self.checkout, "review", verb, "1", "--model", MODEL, *more)

    def open(self) -> ReviewPlan:
        opened = self.review("open", "--prompts", "10")
        assert opened.code == 0, opened.err
        return sealed_plan(self.checkout.home, MODEL)

    def close(self) -> Any:
        closed = self.review("close", "--json")
        assert closed.code == 0, closed.err
        return closed.last

    def verdict(self) -> tuple[int, dict[str, str]]:
        """The exit code of `judge`, and every sentence that stands against a release."""
        address = f"models:/{MODEL}/1"
        answer = invoke(self.checkout, "gate", "judge", address, "--json")
        against = {
            each["rule"]: each["text"]
            for each in answer.last["findings"]
            if each["outcome"] != "passed"
        }
        return answer.code, against

    def login(self, user: str) -> tuple[str, str]:
        return user, read_passwords(self.checkout.home)[user]

    def rate(self, plan: ReviewPlan, **opinions: Opinion) -> None:
        """Each of them rates every item over REST, as MLflow's page does."""
        for user, opinion in opinions.items():
            login = self.login(user)
            for item in plan.items:
                score, is_safe = opinion(item)
                answers = {SCORE: str(score), SAFE: is_safe}
                rate_over_http(self.url, login, item.id, answers)


@pytest.fixture
def site(recorded: Checkout, tmp_path: Path) -> Iterator[Site]:
    checkout = copy_checkout(recorded, tmp_path / "assay")
    (checkout.root / "people.yaml").write_text(PEOPLE)
    policies = checkout.root / "registry/policies"
    policy = (policies / "default.yaml").read_text()
    for asked, instead in LIMITS.items():
        assert asked in policy
        policy = policy.replace(asked, instead)
    (policies / f"{MODEL}.yaml").write_text(policy)
    with guarded_server(checkout.home, checkout.root) as url:
        experiment = checkout.store.reviews.experiment()
        let_review(checkout.home, REVIEWERS, experiment)
        environment = {
            **checkout.environment,
            **service_login(checkout.home),
            "MLFLOW_TRACKING_URI": url,
        }
        yield Site(Checkout(checkout.root, environment), url, experiment)


def rate_in_chromium(site: Site, plan: ReviewPlan, folder: Path) -> None:
    """Both reviewers find the version better, each in a browser of their own."""
    opened = open_ledger(site.checkout.home).state().reviews[-1].opened
    title = f"{MODEL} version 1, review {opened}"
    for user in REVIEWERS:
        profile = folder / user
        profile.mkdir()
        with chromium(profile) as browser:
            page = ReviewPage(browser, site.url, site.login(user))
            page.start(site.experiment, title)
            page.rate(plan, BETTER, pictures_folder(folder))


def pictures_folder(folder: Path) -> Path:
    """Screenshots go to `ASSAY_SCREENSHOTS`, by default a temporary folder."""
    pictures = Path(os.environ.get("ASSAY_SCREENSHOTS") or folder / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    return pictures


def test_two_people_rate_in_mlflow_and_the_version_becomes_a_candidate(
    site: Site, tmp_path: Path
) -> None:
    code, against = site.verdict()
    assert (code, set(against)) == (4, {"human_rating"})
    # Who disagree show nothing; nor does who was not asked, or what is off the scale.
    plan = site.open()
    site.rate(plan, manager=BETTER, scientist=WORSE)
    first = plan.items[0].id
    forged = {"as_user": "manager"}
    rate_over_http(site.url, site.login("admin"), first, {SCORE: "1"}, **forged)
    rate_over_http(site.url, site.login("manager"), first, {SCORE: "9"})
    found = site.close()
    named = "\n".join(found["set_aside"])
    assert "'admin' is no reviewer of this review (1)" in named
    assert "'manager' wrote a value that is not 1 to 5 (1)" in named
    assert (found["raters"], found["missing"]) == (2, 0)
    code, against = site.verdict()
    assert (code, set(against)) == (4, {"human_rating"})
    assert "an agreement of 0.4 not shown" in against["human_rating"]
    # Asked again, they agree: nothing else is missing.
    plan = site.open()
    rate_in_chromium(site, plan, tmp_path)
    found = site.close()
    assert found["set_aside"] == []
    assert (found["raters"], found["missing"], found["altered"]) == (2, 0, 0)
    assert found["difference"]["estimate"] == 3
    assert site.verdict() == (0, {})
    # Once people find it worse, no other review outvotes them.
    site.rate(site.open(), manager=WORSE, scientist=WORSE)
    site.close()
    code, against = site.verdict()
    assert (code, set(against)) == (3, {"human_rating"})
    assert "they found it worse by 3.00 points" in against["human_rating"]
