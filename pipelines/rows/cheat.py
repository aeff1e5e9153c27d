"""The demo's data: "what I want → shell command" pairs out of the sheets of the PyPI package `cheat`.

A row is a comment in a sheet and the command that stands under it; its group is the sheet, that is, the command it is about.
Sheets are read in memory: nothing of the archive is unpacked or run here.
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
MAX_DESCRIPTION = 200

# Sheets whose lines are not shell commands: key bindings, escape sequences, commands of another program.
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
COMMAND = re.compile(r"[A-Za-z_.~/$({\[!]")
KEYS_OR_SQL = re.compile(
    r"(Ctrl|Alt|Shift|Esc|[CM]-\S|Type\b|[a-z] - )|[A-Z]{3,}(\s|;|$)"
)
PLACEHOLDER = re.compile(r"<([A-Za-z](?:[^<>\n\"'=]*[A-Za-z0-9])?)>")
TABLE = re.compile(r"\S+(\t|\s{3,})[A-Za-z ,'-]+$")
ENDINGS = {"for": "done", "while": "done", "until": "done", "if": "fi", "case": "esac"}


def cheat_rows(archive: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line in its sheet, record with prompt, completion and group), sheet after sheet in alphabetical order."""
    for sheet, text in read_sheets(archive):
        for number, description, command in pairs(sheet, text):
            prompt = f"Write one shell command with {sheet}: {description}"
            yield number, {"prompt": prompt, "completion": command, "group": sheet}


def read_sheets(archive: Path) -> list[tuple[str, str]]:
    """Every sheet of the archive as (name, text)."""
    try:
        with tarfile.open(archive) as members:
            return sorted(
                (Path(member.name).name, _text(members, member))
                for member in members
                if _is_sheet(member)
            )
    except (tarfile.TarError, UnicodeDecodeError, EOFError) as error:
        raise DamagedFile(
            f"{archive} is not the archive of cheat sheets ({type(error).__name__}). Delete it and run again."
        ) from error


def pairs(sheet: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line number of the command, description, command) for every comment with a command under it.

    One empty line may stand between them where the command is the sheet's own; under a headline there is anything.
    """
    lines = text.splitlines()
    comment: list[str] = []
    for index, line in enumerate(lines):
        if line.startswith("#"):
            comment.append(line.lstrip("#").strip())
        elif line.strip() or not _begins_with(sheet, lines[index + 1 : index + 2]):
            description, comment = describe(comment), []
            command = without_angle_brackets(command_at(lines, index))
            if description and is_command(command):
                yield index + 1, description, command


def describe(comment: list[str]) -> str:
    """The comment's first paragraph as a wish: without "To", the final colon and lines that only name a source."""
    paragraph = " ".join(_first_paragraph(comment))
    description = re.sub(r"^to\s+", "", paragraph, flags=re.IGNORECASE).strip(" :.")
    return description if len(description) <= MAX_DESCRIPTION else ""


def command_at(lines: list[str], index: int) -> str:
    """The command that begins at a line, with the lines that continue it."""
    taken: list[str] = []
    for line in lines[index:]:
        if not line.strip():
            break
        taken.append(line.rstrip())
        if not is_open("\n".join(taken)):
            return re.sub(r"^[$>] ", "", "\n".join(taken).strip())
    return ""


def without_angle_brackets(command: str) -> str:
    """Placeholders as plain words: a shell reads `<package name>` as a redirection and cannot parse it."""
    return PLACEHOLDER.sub(lambda found: re.sub(r"\W+", "_", found[1]), command)


def is_open(command: str) -> bool:
    """Whether a shell would wait for another line: a continuation, an open quote, a loop without its end."""
    if (
        command.endswith(("\\", "|", "&&"))
        or command.count('"') % 2
        or command.count("'") % 2
    ):
        return True
    ending = ENDINGS.get(command.split(maxsplit=1)[0])
    return ending is not None and re.search(rf"\b{ending}\b", command) is None


def is_command(text: str) -> bool:
    """Whether a line could be typed into a shell; key bindings, SQL and tables could not."""
    return (
        bool(COMMAND.match(text))
        and not KEYS_OR_SQL.match(text)
        and not TABLE.fullmatch(text)
    )


def _begins_with(sheet: str, lines: list[str]) -> bool:
    return any(line.split()[:1] == [sheet] for line in lines)


def _first_paragraph(comment: list[str]) -> list[str]:
    kept: list[str] = []
    for line in comment:
        if not line and kept:
            break
        if re.search(r"[A-Za-z]", line) and "://" not in line:
            kept.append(line)
    return kept


def _is_sheet(member: tarfile.TarInfo) -> bool:
    name = member.name.removeprefix(SHEETS)
    is_text = member.isfile() and member.size <= MAX_SHEET_BYTES
    return (
        is_text
        and member.name.startswith(SHEETS)
        and "/" not in name
        and not name.startswith("_")
        and name not in NOT_SHELL
    )


def _text(members: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = members.extractfile(member)
    return stream.read().decode("utf-8") if stream else ""
