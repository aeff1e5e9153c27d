"""The playground as a process, and its page in a browser."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from core.ready import parse_ready
from tests.support.browser import FLEETING
from tests.support.waiting import SECONDS_AT_MOST

ROOT = Path(__file__).parents[2]


class PlaygroundPage:
    """The page as a person sees it."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url)

    def ask(self, question: str) -> None:
        box = "//textarea[@aria-label='Question']"
        self.wait(lambda: bool(self.all(box)))
        self.browser.find_element(By.XPATH, box).send_keys(
            question, Keys.CONTROL, Keys.ENTER
        )

    def give_key(self, key: str) -> None:
        field = "//input[@aria-label='API key']"
        self.wait(lambda: any(each.is_displayed() for each in self.all(field)))
        self.browser.find_element(By.XPATH, field).send_keys(key)
        self.press("Look for models again")

    def press(self, name: str) -> None:
        # Beside the label stands the name of an icon, which is drawn.
        label = f".//span[normalize-space(.)='{name}']"
        path = f"//button[@aria-label='{name}' or {label}]"

        def is_pressed() -> bool:
            shown = [each for each in self.all(path) if each.is_displayed()]
            if shown:
                shown[0].click()
            return bool(shown)

        self.wait(is_pressed)

    def until_it_says(self, *words: str) -> None:
        self.wait(lambda: all(each in self.text for each in words))

    @property
    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def all(self, path: str) -> list[WebElement]:
        return self.browser.find_elements(By.XPATH, path)

    def keep(self, name: str, height: int) -> None:
        """A picture for docs/pictures, where `ASSAY_SCREENSHOTS` names a folder."""
        folder = os.environ.get("ASSAY_SCREENSHOTS")
        if folder:
            self.browser.set_window_size(1200, height)
            self.browser.save_screenshot(f"{folder}/{name}.png")

    def wait(self, is_so: Callable[[], bool]) -> None:
        WebDriverWait(self.browser, SECONDS_AT_MOST, ignored_exceptions=FLEETING).until(
            lambda _: is_so()
        )


@contextmanager
def playground(endpoint: str, home: Path, *options: str) -> Iterator[str]:
    """The page's process; gives the page's address."""
    places = ["--endpoint", endpoint, "--home", str(home), "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving.playground", *places, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = parse_ready(process.stdout.readline())
        assert url is not None
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_AT_MOST)
    assert process.returncode == 0
