"""Sheets of commands to rows.

The archive here is made up: nothing of the package itself is kept in this project.
"""

import io
import tarfile
from pathlib import Path

import pytest

from core.errors import DamagedFile
from pipelines.rows.cheat import (
    SHEETS,
    find_pairs,
    is_command,
    read_cheat_rows,
    replace_placeholders,
)

SHEET = """# Pottery

# To fire a bowl:
kiln --fire bowl

# To glaze a bowl
# in blue
kiln --glaze \\
  --colour blue bowl
kiln --glaze --colour navy bowl

# Repeat for every bowl
for bowl in *; do
  kiln "$bowl"
done

# To cool down

kiln --cool

# Keys
Ctrl-c  stop
# https://example.org
kiln --nothing
"""


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as out:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            out.addfile(member, io.BytesIO(content))
    return path


def test_a_comment_and_the_command_under_it_are_a_pair() -> None:
    assert list(find_pairs("kiln", SHEET)) == [
        (4, "fire a bowl", "kiln --fire bowl"),
        (8, "glaze a bowl in blue", "kiln --glaze \\\n  --colour blue bowl"),
        (13, "Repeat for every bowl", 'for bowl in *; do\n  kiln "$bowl"\ndone'),
        (19, "cool down", "kiln --cool"),
    ]


def test_a_row_says_what_is_wanted_and_of_which_command(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "cheat.tar.gz",
        {
            f"{SHEETS}kiln": b"# To fire a bowl:\nkiln --fire bowl\n",
            f"{SHEETS}__init__.py": b"# To run\nos\n",
        },
    )
    record = {
        "prompt": "Write one shell command with kiln: fire a bowl",
        "completion": "kiln --fire bowl",
        "group": "kiln",
    }
    assert list(read_cheat_rows(path)) == [(2, record)]


def test_an_archive_is_never_unpacked(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "cheat.tar.gz",
        {
            "../escaped": b"# To run\nrm x\n",
            f"{SHEETS}../../escaped": b"# To run\nrm x\n",
        },
    )
    assert list(read_cheat_rows(path)) == []
    assert [found.name for found in tmp_path.iterdir()] == ["cheat.tar.gz"]


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cheat.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DamagedFile, match=r"cheat\.tar\.gz is not the archive"):
        list(read_cheat_rows(tmp_path / "cheat.tar.gz"))


@pytest.mark.parametrize(
    "line", ["ls -l", "$HOME/bin/x", "./configure", "A=1 make", "[ -f x ]"]
)
def test_what_can_be_typed_is_a_command(line: str) -> None:
    assert is_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Ctrl-b d",
        "SHOW GRANTS;",
        "-n  a number",
        "w    next start of word",
        "u - user",
    ],
)
def test_keys_tables_and_sql_are_no_commands(line: str) -> None:
    assert not is_command(line)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("pacman -S <package name>", "pacman -S package_name"),
        ("svn co <url>/<path/to/it> <n>", "svn co url/path_to_it n"),
        ("sort <in >out", "sort <in >out"),
        ("diff <(ls a) <(ls b)", "diff <(ls a) <(ls b)"),
        ("cat <<EOF > file", "cat <<EOF > file"),
        ("cmd 2>&1 < file > log", "cmd 2>&1 < file > log"),
    ],
)
def test_a_placeholder_is_a_word_and_a_redirection_stays(
    written: str, plain: str
) -> None:
    assert replace_placeholders(written) == plain
