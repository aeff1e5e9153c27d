"""The code stays as easy to read as it was measured to be: `make figures` prints the numbers."""

from pathlib import Path

import pytest

from infra.figures import SOURCES, measure, missed_targets

DENSE = '''
def dense(rows):
    return {a: [f(b, c)[0].d for b in rows if b.e and not c.f(b)] for a, c in rows.items()}


def read(path):
    """Read it."""
    raise OSError(path)
'''


def test_the_code_meets_its_targets() -> None:
    assert missed_targets(measure(SOURCES)) == ()


@pytest.mark.parametrize(
    "fact",
    [
        "AST nodes a line: the median is over 8",
        "AST nodes a line: the 90th percentile is over 12",
        "code lines a comment: there are over 20",
        "docstrings that name errors are under 0.5",
    ],
)
def test_dense_code_misses_a_target(tmp_path: Path, fact: str) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/module.py").write_text(DENSE * 10)
    assert fact in missed_targets(measure(("code",), tmp_path))


def test_a_line_over_100_characters_is_named(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    text = 'def short(path):\n    return path\n\n\nNAME = "' + "x" * 100 + '"\n'
    (tmp_path / "code/module.py").write_text(text)
    assert measure(("code",), tmp_path).long_lines == ("code/module.py:5",)
