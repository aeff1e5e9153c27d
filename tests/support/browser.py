"""Headless Chromium, as a person's browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1400,2400",
)
FLEETING = (
    ElementClickInterceptedException,
    NoSuchElementException,
    StaleElementReferenceException,
)
"""What a page throws at a reader while it draws itself."""
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="chromium and chromium-driver are not installed: infra/debian.sh",
)


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """With a profile of its own, and a picture of what was seen last."""
    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield browser
        browser.save_screenshot(str(folder / "last-seen.png"))
    finally:
        browser.quit()
