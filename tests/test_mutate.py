"""`make mutate` finds a comparison that no test holds to, and works in a copy alone."""

import ast
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from infra.mutate import (
    ROOT,
    BrokenSetup,
    Flip,
    Gate,
    copied,
    examine,
    mutants,
    read_table,
)

MODULE = """
def is_enough(rows, least):
    return rows >= least


def is_known(name, names):
    if not names:
        return False
    return name in names and name != "nobody"


def is_long(text):
    return len(text) > 80
"""
TESTS = """
from limits import is_enough, is_known, is_long


def test_the_limit_itself_is_enough():
    assert is_enough(2, 2)
    assert not is_enough(1, 2)


def test_far_from_the_limit():
    assert is_long("-" * 100)
    assert not is_long("-")
"""
QUIET = Console(quiet=True)


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A repository of one module whose tests leave one comparison alone."""
    (tmp_path / "limits.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "test_limits.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_each_kind_of_expression_is_flipped_once() -> None:
    found = [
        (mutant.flip.function, mutant.flip.after)
        for mutant in mutants("limits.py", MODULE)
    ]
    assert found == [
        ("is_enough", "rows > least"),
        ("is_known", "not not names"),
        ("is_known", "return True"),
        ("is_known", "name in names or name != 'nobody'"),
        ("is_known", "name not in names"),
        ("is_known", "name == 'nobody'"),
        ("is_long", "len(text) >= 80"),
    ]


def test_a_flip_changes_its_own_expression_and_nothing_else() -> None:
    plain = ast.unparse(ast.parse(MODULE)).splitlines()
    for mutant in mutants("limits.py", MODULE):
        changed = mutant.source.splitlines()
        assert sum(one != other for one, other in zip(plain, changed, strict=True)) == 1


def test_only_the_comparison_that_no_test_holds_to_survives(sample: Path) -> None:
    gate = Gate("limits.py", ("test_limits.py",))
    asked = [
        each for each in mutants(gate.file, MODULE) if each.flip.function != "is_known"
    ]
    with copied(sample) as copy:
        alive = [mutant.flip.after for mutant in copy.survivors(gate, asked, QUIET)]
    assert alive == ["len(text) >= 80"]
    assert (sample / "limits.py").read_text(encoding="utf-8") == MODULE


def test_tests_that_do_not_import_the_module_are_no_evidence(sample: Path) -> None:
    (sample / "test_limits.py").write_text(
        "def test_nothing(): ...\n", encoding="utf-8"
    )
    with copied(sample) as copy, pytest.raises(BrokenSetup, match="do not import"):
        examine(copy, Gate("limits.py", ("test_limits.py",)), {}, 1, QUIET)


def test_every_gate_exists_and_so_does_each_flip_that_is_kept_with_a_reason() -> None:
    gates, kept = read_table(ROOT)
    found: set[Flip] = set()
    for gate in gates:
        assert all((ROOT / name).is_file() for name in gate.tests), gate
        text = (ROOT / gate.file).read_text(encoding="utf-8")
        found |= {mutant.flip for mutant in mutants(gate.file, text)}
    assert kept.keys() <= found
    assert all(len(why) > 20 for why in kept.values())


@pytest.mark.slow
def test_every_flip_in_the_comparisons_is_noticed_or_kept_with_a_reason() -> None:
    gates, kept = read_table(ROOT)
    gate = next(gate for gate in gates if gate.file.endswith("comparisons.py"))
    with copied(ROOT) as copy:
        assert examine(copy, gate, kept, None, QUIET) == 0
