"""From `/` of a real endpoint to its playground, and back without one."""

from pathlib import Path

import httpx
import pytest

from tests.support.browser import chromium, needs_chromium
from tests.support.endpoint_system import MODEL, Home
from tests.support.endpoint_system import endpoint as running_endpoint
from tests.support.playground import PlaygroundPage, playground
from tests.support.waiting import SECONDS_AT_MOST


@pytest.mark.ci
@needs_chromium
def test_the_endpoint_leads_to_the_page_that_asks_it(
    home: Home, tmp_path: Path
) -> None:
    with running_endpoint(home) as running:
        home.release("1")
        url = f"{running.url}/v1"
        with playground(url, home.path) as address, chromium(tmp_path) as browser:
            page = PlaygroundPage(browser, running.url)
            assert browser.current_url == f"{address}/"
            page.ask("How do I list files?")
            page.until_it_says("version 1 · ", "the base · ")
            page.press("Bad answer")
            page.until_it_says("Rated as bad.")
        assert MODEL in running.ask().text
        front = httpx.get(running.url, timeout=SECONDS_AT_MOST)
        assert "assay playground" in front.text
