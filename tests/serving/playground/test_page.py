"""The playground in a person's browser: headless Chromium on the page's own process."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.support.browser import chromium, needs_chromium
from tests.support.playground import PlaygroundPage, playground
from tests.support.standin_endpoint import BASE, TUNED, StandInEndpoint
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.ci, needs_chromium]
MARKUP = "<img src=x onerror=\"document.title='run'\"> <b>bold</b> & done"
# Of this machine too, and not the address that a page is at by default.
ANOTHER_ADDRESS = "127.0.0.2"


@pytest.fixture
def standin() -> Iterator[StandInEndpoint]:
    with StandInEndpoint().running() as running:
        yield running


@pytest.fixture
def page(standin: StandInEndpoint, tmp_path: Path) -> Iterator[PlaygroundPage]:
    with playground(standin.url, tmp_path / "home") as url, chromium(tmp_path) as seen:
        yield PlaygroundPage(seen, url)


def test_release_and_base_answer_side_by_side_and_an_answer_is_rated(
    page: PlaygroundPage, standin: StandInEndpoint
) -> None:
    page.ask("Write one shell command with tar: extract a .gz archive")
    page.until_it_says("tar -xzf a.tar.gz", "I am a model.", f"version 3 · fp_{TUNED}")
    page.until_it_says(f"the base · fp_{BASE}")
    standin.takes_no_rating = "The disk of ratings is full."
    page.press("Good answer")
    page.until_it_says("The disk of ratings is full.")
    standin.takes_no_rating = ""
    page.press("Good answer")
    page.until_it_says("Rated as good.")
    page.keep("playground", 620)
    assert [each["score"] for each in standin.ratings] == [1]
    page.ask("And a .bz2 one?")
    wait_until(lambda: len(standin.asked) == 4)
    last = {each["model"]: each["messages"] for each in standin.asked[2:]}
    assert [each["role"] for each in last[TUNED]] == ["user", "assistant", "user"]
    assert last[BASE][1]["content"] == "I am a model."
    assert len({each["user"] for each in standin.asked}) == 1


def test_what_a_model_writes_is_shown_as_text_and_never_run(
    page: PlaygroundPage, standin: StandInEndpoint
) -> None:
    standin.answers = {TUNED: MARKUP, BASE: f"*{MARKUP}*\n\n    | {{{{ 1 + 1 }}}}"}
    page.ask(MARKUP)
    page.until_it_says(f"*{MARKUP}*", "| {{ 1 + 1 }}")
    # The question and both answers.
    assert page.text.count(MARKUP) == 3
    assert page.all("//img[@src='x']") == []
    assert page.all("//b") == []
    assert page.browser.title == "Assay playground"


def test_an_answer_that_does_not_end_is_stopped_and_frees_the_endpoint(
    page: PlaygroundPage, standin: StandInEndpoint
) -> None:
    standin.never_ends = True
    page.ask("hello")
    page.until_it_says("tar -xzf a.tar.gz")
    page.press("Stop")
    page.until_it_says("Stopped.")
    wait_until(lambda: sorted(standin.left) == sorted([TUNED, BASE]))
    page.ask("and again")
    wait_until(lambda: len(standin.asked) == 4)
    # Whoever closes the page waits for nothing any more.
    page.browser.get("about:blank")
    wait_until(lambda: len(standin.left) == 4)


def test_a_refusal_is_shown_and_the_next_question_is_asked(
    page: PlaygroundPage, standin: StandInEndpoint
) -> None:
    standin.refuses = "No engine of letters answers at this moment."
    page.ask("hello")
    page.until_it_says("No engine of letters answers")
    standin.refuses = ""
    page.ask("hello again")
    page.until_it_says("tar -xzf a.tar.gz")


def test_a_page_for_others_asks_for_a_key_and_passes_it_on(
    standin: StandInEndpoint, tmp_path: Path
) -> None:
    standin.key = "sk-right"
    place = ("--host", ANOTHER_ADDRESS)
    with (
        playground(standin.url, tmp_path / "home", *place) as url,
        chromium(tmp_path) as browser,
    ):
        page = PlaygroundPage(browser, url)
        page.until_it_says("Give your API key.")
        page.give_key("sk-wrong")
        page.until_it_says("Send an API key.")
        page.give_key(Keys.CONTROL + "a" + Keys.NULL + "sk-right")
        page.ask("hello")
        page.until_it_says("tar -xzf a.tar.gz")
