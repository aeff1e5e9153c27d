"""A file is whole or absent; a value is what was written or damage."""

from pathlib import Path

import pytest

from core.errors import DamagedFile
from core.files import (
    digest_of_files,
    folder_digests,
    read_jsonl,
    sha256_of,
    write_atomically,
    write_jsonl,
    write_text,
)
from core.value import FileDigest, Value


class Sample(Value):
    number: float


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device", str(temporary))

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_jsonl_comes_back_with_every_character(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [{"a": "\u2028 line\nend \x1f 日"}, {"a": 1}]
    write_jsonl(tmp_path / "rows", records)
    assert list(read_jsonl(tmp_path / "rows")) == records


def test_a_line_cut_short_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").write_text('{"a": 1}\n{"a": ')
    with pytest.raises(DamagedFile, match="line 2 is not JSON"):
        list(read_jsonl(tmp_path / "rows"))


def test_a_nan_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "value").write_text('{"number": NaN}')
    with pytest.raises(DamagedFile, match="is not a whole Sample"):
        Sample.read(tmp_path / "value")
    with pytest.raises(ValueError, match="finite"):
        Sample(number=float("inf"))


@pytest.mark.parametrize(
    "content", ["", "{}", '{"number": 1, "more": 2}', '{"number": "x"}']
)
def test_a_value_with_too_little_or_too_much_is_damage(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "value").write_text(content)
    with pytest.raises(DamagedFile):
        Sample.read(tmp_path / "value")


def test_a_file_that_changed_or_went_is_not_given(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "text")
    digest = FileDigest.of(path)
    assert digest.checked() == path
    write_text(path, "texT")
    with pytest.raises(DamagedFile, match="has changed since it was recorded"):
        digest.checked()
    path.unlink()
    with pytest.raises(DamagedFile, match="does not exist"):
        digest.checked()


def test_a_folder_digest_knows_names_and_bytes_and_refuses_links(
    tmp_path: Path,
) -> None:
    write_text(tmp_path / "sub/a", "1")
    write_text(tmp_path / "b", "2")
    digests = folder_digests(tmp_path)
    assert digests == {
        "sub/a": sha256_of(tmp_path / "sub/a"),
        "b": sha256_of(tmp_path / "b"),
    }
    assert digest_of_files(digests) == digest_of_files(dict(reversed(digests.items())))
    assert digest_of_files(digests) != digest_of_files(
        {"sub/b": digests["sub/a"], "b": digests["b"]}
    )
    (tmp_path / "link").symlink_to("b")
    with pytest.raises(DamagedFile, match="symbolic link"):
        folder_digests(tmp_path)
