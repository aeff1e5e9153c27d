"""The line by which a process says that it is ready."""

import pytest

from core.ready import is_ready_line, parse_ready, ready_line

URL = "http://127.0.0.1:8080/v1"


def test_the_address_that_was_written_is_the_one_that_is_read() -> None:
    line = ready_line("letters version 2 (fp_1a2b)", URL)
    assert line == f"Ready: letters version 2 (fp_1a2b) at {URL}"
    assert is_ready_line(line)
    assert parse_ready(f"{line}\n") == URL


def test_the_last_address_counts_where_a_name_looks_like_one() -> None:
    assert parse_ready(f"{ready_line('a model at http://elsewhere', URL)}\n") == URL


def test_a_process_without_an_address_says_that_it_is_ready() -> None:
    line = ready_line("the controller looks every 2 s.")
    assert line == "Ready: the controller looks every 2 s."
    assert is_ready_line(line)
    assert parse_ready(f"{line}\n") is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        f"Loading at {URL}\n",
        f"Not Ready: letters at {URL}\n",
        f"Ready: letters at {URL}",
        f"Ready: letters at {URL} and more\n",
        f"Ready: letters at {URL}\nReady: others at {URL}\n",
    ],
)
def test_other_lines_and_lines_that_were_cut_off_have_no_address(line: str) -> None:
    assert parse_ready(line) is None


@pytest.mark.parametrize("line", ["", "Loading", "ready: no", " Ready: indented"])
def test_other_lines_do_not_say_that_a_process_is_ready(line: str) -> None:
    assert not is_ready_line(line)
