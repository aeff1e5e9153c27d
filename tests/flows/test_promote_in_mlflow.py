"""A release manager in MLflow's own pages: headless Chromium on the server of `assay up`."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from registry.ledger.entries import Registered, RolledBack, Wished
from registry.ledger.ledger import open_ledger
from registry.mlflow.accounts import read_passwords, service_login
from registry.mlflow.guarded_stores import APPROVE
from registry.mlflow.recorded import CHAMPION, RELEASE, RELEASE_REASON
from registry.release.canary_series import read_looks
from tests.support.browser import FLEETING, chromium, needs_chromium
from tests.support.journey import Checkout, copy_checkout
from tests.support.ledgers import write
from tests.support.promoted import (
    MODEL,
    System,
    model_state,
    system_of,
    waive,
)
from tests.support.waiting import SECONDS_AT_MOST, wait_until

CANARY = """
canary:
  weights: [50]
  window_s: 1
  least_requests: 10
  bake_s: 1
  limits: {errors: 50, empties: 50, refusals: 50, repetition: 50, latency: 50, first_token: 50,
    length: 50, texture: 50}
"""
"""Few requests are enough where much may be lost: the tests of the canary ask for more."""
LINK_TO_REPORT = re.compile(r"\[The report of its last release\]\((\S+)\)")
pytestmark = [pytest.mark.ci, needs_chromium]


class VersionPage:
    """The page of a version of the model, as `manager` sees it."""

    def __init__(
        self, browser: webdriver.Chrome, system: System, pictures: Path
    ) -> None:
        self._browser, self._pictures = browser, pictures
        self._place = f"127.0.0.1:{system.up.ports.mlflow}"
        password = read_passwords(system.checkout.home)["manager"]
        # The browser keeps the login of the first page for the next ones.
        browser.get(f"http://manager:{password}@{self._place}/")

    def open(self, version: str = "1") -> None:
        address = f"http://{self._place}/#/models/{MODEL}/versions/{version}"
        self._browser.get("about:blank")
        self._browser.get(address)
        self.until_it_says("Registered At")
        for button in self._all("//button[@aria-label='Close']"):
            button.click()  # the assistant, which takes a third of the page

    def add_tag(self, name: str, value: str) -> None:
        self.write_tag(name, value)
        self.until_it_says(value)

    def write_tag(self, name: str, value: str) -> None:
        section = "//*[@data-testid='tags-section']"
        self._wait(lambda: self._fill(f"{section}//input[@id='name']", name))
        self._wait(lambda: self._fill(f"{section}//input[@id='value']", value))
        self._click(f"{section}//button[normalize-space()='Add']")

    def set_alias(self, alias: str) -> None:
        self._click("//button[@title='Edit aliases' or @title='Add aliases']")
        box = "//div[@role='dialog']//input[@role='combobox']"
        self._wait(lambda: bool(self._all(box)))
        self._browser.find_element(By.XPATH, box).send_keys(alias, Keys.ENTER)
        self._click("//div[@role='dialog']//button[normalize-space()='Save aliases']")

    def dialog_says(self, words: str) -> None:
        dialog = "//div[@role='dialog']"
        self._wait(lambda: any(words in found.text for found in self._all(dialog)))

    def close_dialog(self) -> None:
        self._click("//div[@role='dialog']//button[normalize-space()='Cancel']")

    def until_it_says(self, words: str) -> None:
        self._wait(lambda: words in self._browser.page_source)

    def keep(self, name: str, height: int) -> None:
        self._browser.set_window_size(1400, height)
        self._browser.save_screenshot(str(self._pictures / f"{name}.png"))

    def _fill(self, path: str, text: str) -> bool:
        """Whether the field holds the text after typing: a page that draws itself loses keys."""
        field = self._browser.find_element(By.XPATH, path)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)
        return field.get_attribute("value") == text

    def _click(self, path: str) -> None:
        def is_clicked() -> bool:
            self._browser.find_element(By.XPATH, path).click()
            return True

        self._wait(is_clicked)

    def _all(self, path: str) -> list[WebElement]:
        return self._browser.find_elements(By.XPATH, path)

    def _wait(self, is_so: Callable[[], bool]) -> None:
        WebDriverWait(
            self._browser, SECONDS_AT_MOST, ignored_exceptions=FLEETING
        ).until(lambda _: is_so())


@pytest.fixture(scope="module")
def system(
    recorded: Checkout, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    site = copy_checkout(recorded, tmp_path_factory.mktemp("pages") / "assay")
    # From the first release on, so that the policy is the same for all of them.
    policy = site.root / "registry/policies/default.yaml"
    policy.write_text(policy.read_text() + CANARY)
    with system_of(site) as running:
        yield running


@pytest.fixture
def page(system: System, tmp_path: Path) -> Iterator[VersionPage]:
    """Screenshots go to `ASSAY_SCREENSHOTS`, by default a temporary folder."""
    pictures = Path(os.environ.get("ASSAY_SCREENSHOTS") or tmp_path / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium(tmp_path) as browser:
        yield VersionPage(browser, system, pictures)


def aliases(system: System) -> tuple[str | None, str | None]:
    """Which versions have `release` and `champion`."""
    holders = [
        system.checkout.store.holder(MODEL, each) for each in (RELEASE, CHAMPION)
    ]
    wish, fact = (None if each is None else each.version for each in holders)
    return wish, fact


def test_the_dialog_shows_every_reason_and_a_fit_version_is_released_from_its_page(
    system: System, page: VersionPage
) -> None:
    page.open()
    page.set_alias(RELEASE)
    page.dialog_says("Say first why version 1 is to be released")
    page.close_dialog()
    page.add_tag(RELEASE_REASON, "it answers letters better")
    page.open()
    page.set_alias(RELEASE)
    page.dialog_says("Version 1 of letters-tiny is undecided by judge")
    page.dialog_says("0 people rated the answers, the policy asks for 3")
    page.keep("wish-refused", 1000)
    assert aliases(system) == (None, None)
    # Ratings are other people's: they are waived. The approval is given on the page.
    waive(system.checkout, "human_rating")
    page.open()
    page.write_tag(APPROVE, "I read its report")
    wait_until(lambda: approvals(system) == [("manager", "mlflow:manager")])
    page.open()
    page.until_it_says("Approvals: manager (mlflow:manager)")
    page.keep("approved", 1000)
    page.open()
    page.set_alias(RELEASE)
    # `champion` follows by itself, once the endpoint answers with it.
    wait_until(lambda: model_state(system.checkout).current is not None)
    assert serving(system) == ("1", "manager")
    fingerprint = system.answer().json()["system_fingerprint"]
    assert fingerprint == fingerprint_of(system)
    page.open()
    page.until_it_says("champion")
    page.keep("wish-granted", 700)
    wait_until(lambda: report_opens(system))
    release_the_second_by_a_canary(system, page)
    page.open()
    page.add_tag(RELEASE_REASON, "the second one is no better")
    page.open()
    page.set_alias(RELEASE)
    wait_until(lambda: release_version(system) == "1")
    assert serving(system) == ("1", "manager")
    last = open_ledger(system.checkout.home).entries()[-1].body
    assert isinstance(last, RolledBack)
    assert (last.by, last.account) == ("manager", "mlflow:manager")
    page.open()
    page.until_it_says("champion")
    page.keep("gone-back", 700)


def release_the_second_by_a_canary(system: System, page: VersionPage) -> None:
    """From its page: it is tried on half of the requests, before it gets them all."""
    register_again(system)
    # It was never compared with the first one, whose bytes it has.
    waive(system.checkout, "comparator")
    page.open("2")
    page.write_tag(APPROVE, "I read its report, too")
    wait_until(lambda: len(approvals(system)) == 2)
    page.open("2")
    page.add_tag(RELEASE_REASON, "the second one may be better")
    page.open("2")
    with users(system):
        page.set_alias(RELEASE)
        wait_until(lambda: release_version(system) == "2")
        assert serving(system) == ("2", "manager")
    current = model_state(system.checkout).current
    assert current is not None
    looks = read_looks(system.checkout.home, current.begun)
    # What its report draws: of the step, in which each side answered.
    assert {look.weight for look in looks} >= {50}
    assert "canary_step" in kinds_since_the_wish(system, "2")


def report_opens(system: System) -> bool:
    """Whether the page of version 1 leads to its report, which its reader may open."""
    (version,) = system.checkout.versions()
    found = LINK_TO_REPORT.search(str(version.description))
    if found is None:
        return False
    password = read_passwords(system.checkout.home)["manager"]
    answer = httpx.get(
        found[1],
        auth=("manager", password),
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )
    return answer.status_code == httpx.codes.OK and "<svg" in answer.text


def approvals(system: System) -> list[tuple[str, str | None]]:
    ledger_state = open_ledger(system.checkout.home).state()
    return [(each.by, each.account) for each in ledger_state.approvals]


def release_version(system: System) -> str | None:
    current = model_state(system.checkout).current
    return None if current is None else current.release.version


def serving(system: System) -> tuple[str, str]:
    """Version and person, once ledger, endpoint and both aliases agree."""
    model = system.settled()
    assert model.current is not None
    version = model.current.release.version
    wait_until(lambda: aliases(system) == (version, version))
    return version, model.current.by


def fingerprint_of(system: System) -> str:
    current = model_state(system.checkout).current
    assert current is not None
    return current.release.fingerprint


def copy_version(system: System) -> None:
    """Make the page of version 2, of the files of version 1, as the service account may."""
    (first,) = system.checkout.versions()
    login = service_login(system.checkout.home)
    tags = [{"key": key, "value": value} for key, value in first.tags.items()]
    version = {
        "name": MODEL,
        "source": first.source,
        "model_id": first.source.removeprefix("models:/"),
        "tags": tags,
    }
    answer = httpx.post(
        f"http://127.0.0.1:{system.up.ports.mlflow}/api/2.0/mlflow/model-versions/create",
        json=version,
        auth=(login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]),
        timeout=SECONDS_AT_MOST,
        trust_env=False,
    )
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.json()["model_version"]["version"] == "2"


def register_again(system: System) -> None:
    """Register the same bytes under the next number: a candidate that is as good."""
    ledger = open_ledger(system.checkout.home)
    registered = ledger.state().registration(MODEL, "1")
    assert registered is not None
    copy_version(system)
    made = registered.made.model_copy(update={"version": "2"})
    again = Registered(
        **made.model_dump(), by="ann", account="7 (ann)", logical_run="0" * 64
    )
    write(ledger, again)


@contextmanager
def users(system: System) -> Iterator[None]:
    """Somebody asks the endpoint all the time: without traffic a canary shows nothing."""
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            system.answer()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        yield
    finally:
        is_over.set()
        asking.join(SECONDS_AT_MOST)


def kinds_since_the_wish(system: System, version: str) -> list[str]:
    """The kinds of the ledger's entries from the wish for that version on."""
    kinds: list[str] = []
    for entry in open_ledger(system.checkout.home).entries():
        body = entry.body
        if isinstance(body, Wished) and body.version == version:
            kinds = []
        kinds.append(body.kind)
    return kinds
