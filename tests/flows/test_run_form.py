"""A data scientist starts a run from the Prefect UI's form.

Headless Chromium, the real server, the real worker.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from registry.mlflow.recorded import VERDICT
from tests.support.browser import FLEETING, chromium, needs_chromium
from tests.support.deployments import MODEL, Automatic, Nights
from tests.support.waiting import SECONDS_AT_MOST

SECONDS_TO_SHOW = SECONDS_AT_MOST

pytestmark = [pytest.mark.ci, needs_chromium]


class Form:
    """The run form of a deployment, by the words that a person reads on it."""

    def __init__(self, browser: webdriver.Chrome, pictures: Path) -> None:
        self.browser, self.pictures = browser, pictures

    def open(self, running: Automatic, name: str) -> None:
        self.browser.get(
            f"{running.url}/deployments/deployment/{running.deployment(name)['id']}/run"
        )
        drawn = WebDriverWait(
            self.browser, SECONDS_TO_SHOW, ignored_exceptions=FLEETING
        )
        drawn.until(
            lambda _: all(
                self.description(label) for label in ("Model", "Data file", "Settings")
            )
        )

    def field(self, label: str) -> WebElement:
        return self.browser.find_element(
            By.XPATH,
            "//span[contains(@class,'schema-form-property__label') and "
            f"starts-with(normalize-space(),'{label} ')]"
            "/ancestor::div[contains(concat(' ',@class,' '),' schema-form-property ')][1]",
        )

    def description(self, label: str) -> str:
        return (
            self.field(label)
            .find_element(By.CLASS_NAME, "schema-form-property__description")
            .text
        )

    def fill(self, label: str, text: str) -> None:
        field = self.field(label)
        for button in field.find_elements(
            By.XPATH, ".//button[normalize-space()='path']"
        ):
            button.click()
        WebDriverWait(self.browser, SECONDS_TO_SHOW, ignored_exceptions=FLEETING).until(
            lambda _: self._typed(label, text)
        )

    def _typed(self, label: str, text: str) -> bool:
        """Whether the field holds the text after typing it.

        A page that draws itself anew under load swallows keys.
        """
        box = self.field(label).find_element(By.TAG_NAME, "textarea")
        box.send_keys(Keys.CONTROL, "a")
        box.send_keys(text)
        return box.get_attribute("value") == text

    def submit(self) -> None:
        # Not by its place on the page, which moves while the form checks what was typed.
        self.browser.execute_script(
            "arguments[0].click()",
            self.browser.find_element(By.XPATH, "//button[@type='submit']"),
        )

    def submit_until_it_is_taken(self) -> None:
        """Press again where the server was too busy for a moment, as the page asks a person to."""
        self.submit()
        WebDriverWait(self.browser, SECONDS_TO_SHOW, ignored_exceptions=FLEETING).until(
            lambda _: self._has_left()
        )

    def _has_left(self) -> bool:
        if not self.browser.current_url.endswith("/run"):
            return True
        refusals = self.browser.find_elements(
            By.XPATH,
            "//*[contains(text(),'Something went wrong')]/following::button[1]",
        )
        if refusals:
            # The notice is closed first, so that it is not read twice. By the page itself: while
            # it comes and goes it takes no click.
            self.browser.execute_script("arguments[0].click()", refusals[0])
            self.submit()
        return False

    def keep(self, name: str) -> None:
        self.browser.save_screenshot(str(self.pictures / f"{name}.png"))


@pytest.fixture
def form(tmp_path: Path) -> Iterator[Form]:
    """Chromium with a profile of its own.

    Screenshots go to `ASSAY_SCREENSHOTS`, by default a temporary folder.
    """
    pictures = Path(os.environ.get("ASSAY_SCREENSHOTS") or tmp_path / "pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    with chromium(tmp_path) as browser:
        yield Form(browser, pictures)


def test_a_run_started_from_the_form_ends_with_a_judged_version_in_the_place_of_the_same_adapter(
    running: Automatic, nights: Nights, form: Form
) -> None:
    known_ids = running.run_ids("retrain/on-demand")
    form.open(running, "retrain/on-demand")
    assert (
        form.description("Model")
        == "Name of the registered model: letters, digits, dot, dash, underscore."
    )
    assert "JSON, CSV, Excel, Parquet" in form.description("Data file")
    form.fill("Model", MODEL)
    form.fill("Data file", str(running.data))
    form.fill("Base model folder", str(running.base))
    form.fill(
        "Settings", json.dumps({**running.request["settings"], "score.resamples": 250})
    )
    form.keep("run-form")
    form.submit_until_it_is_taken()
    done = running.wait_for_new_run("retrain/on-demand", known_ids)
    assert done["state"]["name"] == "Passed", done["state"]
    assert (
        "which it takes from version 1 as the same adapter, judged again"
        in done["state"]["message"]
    )
    assert running.checkout.store.get_version(MODEL, "@challenger").version == "2"
    assert {version.tags[VERDICT] for version in running.checkout.versions()} == {
        "passed"
    }
    form.browser.get(f"{running.url}/runs/flow-run/{done['id']}")
    WebDriverWait(form.browser, SECONDS_TO_SHOW).until(
        lambda browser: "Passed" in browser.page_source
    )
    form.browser.find_element(By.XPATH, "//*[normalize-space()='Artifacts']").click()
    WebDriverWait(form.browser, SECONDS_TO_SHOW).until(
        lambda browser: "passed by screen" in browser.page_source
    )
    form.browser.set_window_size(1400, 900)
    form.keep("run-passed")


def test_the_form_refuses_a_bad_value_and_says_why(
    running: Automatic, form: Form
) -> None:
    before = len(running.runs("retrain/on-demand"))
    form.open(running, "retrain/on-demand")
    form.fill("Model", "../x")
    form.submit()
    WebDriverWait(form.browser, SECONDS_TO_SHOW).until(
        lambda browser: "does not match" in browser.page_source
    )
    form.keep("run-form-refused")
    assert len(running.runs("retrain/on-demand")) == before
