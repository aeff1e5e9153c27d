"""The line by which a process says that it is ready: written and read here alone.

Whoever starts a process reads its output up to this line:

    Ready: letters version 2 (fp_1a2b) at http://127.0.0.1:8080/v1
    Ready: the controller looks every 2 s.
"""

import re

_MARK = "Ready:"
_LINE_WITH_URL = re.compile(rf"{_MARK} .* at (?P<url>\S+)\n")


def ready_line(what: str, url: str | None = None) -> str:
    """The line that says what is ready, and at which address if it has one."""
    line = f"{_MARK} {what}"
    return line if url is None else f"{line} at {url}"


def is_ready_line(line: str) -> bool:
    """Whether a line of a process's output says that the process is ready."""
    return line.startswith(_MARK)


def parse_ready(line: str) -> str | None:
    """The address in a line as `readline` gives it; None where the line says none.

    A line without its newline was cut off, perhaps in the middle of its address: it says none.
    """
    match = _LINE_WITH_URL.fullmatch(line)
    return match["url"] if match else None
