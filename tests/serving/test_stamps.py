"""What is loaded is of files that were the same before and after it."""

from pathlib import Path

import pytest

from serving.stamps import Stamps, load_unchanged, read_stamps


@pytest.mark.parametrize(
    ("changes", "loaded", "given_back"), [(0, 1, []), (1, 2, [1]), (2, None, [1, 2])]
)
def test_what_is_loaded_of_files_that_change_meanwhile_is_given_back(
    tmp_path: Path, changes: int, loaded: int | None, given_back: list[int]
) -> None:
    tries: list[int] = []
    returned: list[int] = []

    def load() -> int:
        tries.append(len(tries) + 1)
        if len(tries) <= changes:
            (tmp_path / f"linked {len(tries)}").write_text("x")
        return tries[-1]

    def look() -> tuple[Stamps | None]:
        return (read_stamps(tmp_path),)

    assert load_unchanged(look, load, returned.append) == loaded
    assert returned == given_back


def test_what_is_loaded_of_files_that_nobody_can_look_at_is_given_back(
    tmp_path: Path,
) -> None:
    returned: list[str] = []

    def look() -> tuple[Stamps | None]:
        return (read_stamps(tmp_path / "none"),)

    assert load_unchanged(look, lambda: "loaded", returned.append) is None
    assert returned == ["loaded", "loaded"]
