"""The demo's data: pairs of a wish and a shell command, from the PyPI package `cheat`.

A row is a comment in a cheat sheet and the command under it. Its group is the sheet, that is,
the command that it is about. Sheets are read in memory: nothing of the archive is unpacked or run.
"""

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.download import PinnedPackage
from core.errors import DamagedFile

CHEAT = PinnedPackage(
    name="cheat",
    version="2.5.1",
    filename="cheat-2.5.1.tar.gz",
    sha256="c537c0ead9f4cb47f0861818a36ce8f6fc844cd7fc2879479dfbb29a335f2ec6",
)
LICENCE = "MIT"
SHEETS = "cheat-2.5.1/cheat/cheatsheets/"
MAX_SHEET_BYTES = 1_000_000
"""A larger member of the archive is no sheet."""
MAX_DESCRIPTION = 200

# Sheets whose lines are not shell commands: key bindings, escape sequences,
# commands of another program.
NOT_SHELL = frozenset(
    {
        "ansi",
        "emacs",
        "irssi",
        "lib",
        "markdown",
        "mutt",
        "org-mode",
        "r2",
        "readline",
        "vim",
        "weechat",
    }
)
# The beginning of a line that can be a command: a name, a path, a variable or a group.
COMMAND = re.compile(r"[A-Za-z_.~/$({\[!]")
# Key bindings, and words in capitals such as SELECT.
KEYS_OR_SQL = re.compile(
    r"(Ctrl|Alt|Shift|Esc|[CM]-\S|Type\b|[a-z] - )|[A-Z]{3,}(\s|;|$)"
)
PLACEHOLDER = re.compile(r"<([A-Za-z](?:[^<>\n\"'=]*[A-Za-z0-9])?)>")
# A word, a wide gap, then prose: a line of a table.
TABLE = re.compile(r"\S+(\t|\s{3,})[A-Za-z ,'-]+$")
# What a shell waits for after the word that opens a loop or a case.
ENDINGS = {"for": "done", "while": "done", "until": "done", "if": "fi", "case": "esac"}


def read_cheat_rows(archive: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line in its sheet, record), sheet after sheet in alphabetical order.

    A record has `prompt`, `completion` and `group`. `DamagedFile` where the archive is not one.
    """
    for sheet, text in read_sheets(archive):
        for number, description, command in find_pairs(sheet, text):
            prompt = f"Write one shell command with {sheet}: {description}"
            record = {
                "prompt": prompt,
                "completion": command,
                "group": sheet,
            }
            yield number, record


def read_sheets(archive: Path) -> list[tuple[str, str]]:
    """Return every sheet as (name, text), sorted; `DamagedFile` where this is no archive."""
    try:
        with tarfile.open(archive) as members:
            sheets = [
                (Path(member.name).name, _read_text(members, member))
                for member in members
                if _is_sheet(member)
            ]
    except (tarfile.TarError, UnicodeDecodeError, EOFError) as error:
        raise DamagedFile(
            f"{archive} is not the archive of cheat sheets ({type(error).__name__}). "
            "Delete it and run again."
        ) from error
    return sorted(sheets)


def find_pairs(sheet: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, description, command) for every comment with a command under it.

    An empty line may separate them where a command of the sheet's own name follows: any
    other line after an empty one belongs to a headline, not to the comment.
    """
    lines = text.splitlines()
    comment: list[str] = []
    for index, line in enumerate(lines):
        if line.startswith("#"):
            comment.append(line.lstrip("#").strip())
            continue
        next_line = lines[index + 1 : index + 2]
        if not line.strip() and _begins_with_command(next_line, sheet):
            # The comment may still describe the command after this empty line.
            continue
        description = describe(comment)
        comment = []
        command = replace_placeholders(read_command(lines, index))
        if description and is_command(command):
            yield index + 1, description, command


def describe(comment: list[str]) -> str:
    """Return the comment's first paragraph as a wish; "" where it is too long for one."""
    lines = _first_paragraph(comment)
    paragraph = " ".join(lines)
    # "To list files:" is the wish "list files".
    wish = re.sub(r"^to\s+", "", paragraph, flags=re.IGNORECASE)
    wish = wish.strip(" :.")
    is_too_long = len(wish) > MAX_DESCRIPTION
    if is_too_long:
        return ""
    return wish


def read_command(lines: list[str], index: int) -> str:
    """Return the command that begins at a line, with the lines that continue it.

    "" where an empty line or the end of the sheet comes before the command is complete.
    """
    command_lines: list[str] = []
    for line in lines[index:]:
        if not line.strip():
            break
        command_lines.append(line.rstrip())
        command = "\n".join(command_lines)
        # A quote or a backslash that is open goes on in the next line.
        if is_open(command):
            continue
        bare = command.strip()
        return re.sub(r"^[$>] ", "", bare)
    return ""


def replace_placeholders(command: str) -> str:
    """Write placeholders as plain words.

    A shell reads `<package name>` as a redirection and cannot parse it.

    >>> replace_placeholders("apt install <package name>")
    'apt install package_name'
    """

    def write_as_word(placeholder: re.Match[str]) -> str:
        text = placeholder[1]
        return re.sub(r"\W+", "_", text)

    return PLACEHOLDER.sub(write_as_word, command)


def is_open(command: str) -> bool:
    """Whether a shell would wait for another line.

    That is after a continuation, in an open quote, or in a loop without its end.
    """
    if command.endswith(("\\", "|", "&&")):
        return True
    # An odd number of quotes: one is open.
    if command.count('"') % 2 or command.count("'") % 2:
        return True
    first_word = command.split(maxsplit=1)[0]
    ending = ENDINGS.get(first_word)
    if ending is None:
        return False
    has_ending = re.search(rf"\b{ending}\b", command)
    return not has_ending


def is_command(text: str) -> bool:
    """Whether a line could be typed into a shell; key bindings, SQL and tables could not."""
    if not COMMAND.match(text):
        return False
    if KEYS_OR_SQL.match(text):
        return False
    return not TABLE.fullmatch(text)


def _begins_with_command(lines: list[str], command: str) -> bool:
    for line in lines:
        first_word = line.split()[:1]
        if first_word == [command]:
            return True
    return False


def _first_paragraph(comment: list[str]) -> list[str]:
    paragraph: list[str] = []
    for line in comment:
        # Empty lines before the first words end nothing.
        if not line and paragraph:
            break
        has_letters = re.search(r"[A-Za-z]", line) is not None
        if has_letters and "://" not in line:
            paragraph.append(line)
    return paragraph


def _is_sheet(member: tarfile.TarInfo) -> bool:
    if not member.isfile() or member.size > MAX_SHEET_BYTES:
        return False
    if not member.name.startswith(SHEETS):
        return False
    name = member.name.removeprefix(SHEETS)
    # Modules and subfolders of the package are beside its sheets.
    if "/" in name or name.startswith("_"):
        return False
    return name not in NOT_SHELL


def _read_text(members: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = members.extractfile(member)
    if stream is None:
        return ""
    content = stream.read()
    return content.decode("utf-8")
