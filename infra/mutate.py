"""Flip one comparison of a gate at a time and report every flip that no test notices.

`make mutate` runs it. It works in a copy of the tree and never in the tree itself. The gates, their
tests and the flips that change nothing stand in `infra/gates.toml`.

mutmut 3 skips every decorated function, and the ceilings of a policy are decorated validators.
cosmic-ray flips no `in` and makes five flips of each comparison. This file needs only `ast`.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import track

ROOT = Path(__file__).parents[1]
OPTIONS = "-x -q --no-header -p no:cacheprovider --hypothesis-seed=0"
TABLE = "infra/gates.toml"
_AT_MOST = 1800
"""Seconds for the tests of one gate with nothing flipped."""
_NO_TEST = 5
"""pytest's exit code where it found none."""
PAIRS: tuple[tuple[type[ast.cmpop], type[ast.cmpop]], ...] = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.In, ast.NotIn),
    (ast.Is, ast.IsNot),
)
OPPOSITES = dict(PAIRS) | {other: one for one, other in PAIRS}


class Flip(NamedTuple):
    """One change of one expression. Lines move too often to be part of its name."""

    file: str
    function: str
    before: str
    after: str


class Mutant(NamedTuple):
    """A flip, the line that it is on, and the whole module after it."""

    flip: Flip
    line: int
    source: str


class Gate(NamedTuple):
    """A module and the test files that must notice a change in it."""

    file: str
    tests: tuple[str, ...]


Kept = dict[Flip, str]
"""Flips that change nothing that anybody could see, each with the reason."""


class BrokenSetup(Exception):
    """The tests do not tell a good module from a bad one, so no flip would mean anything."""


def mutants(file: str, source: str) -> Iterator[Mutant]:
    """Every flip of one module, from top to bottom."""
    tree = ast.parse(source)
    for node, function in list(_nodes(tree)):
        before = ast.unparse(node)
        for _ in _flips(node):
            flip = Flip(file, function, before, ast.unparse(node))
            yield Mutant(flip, getattr(node, "lineno", 0), ast.unparse(tree))


def _nodes(tree: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Each node below, in the order of the source, with the name of what it stands in."""
    for child in ast.iter_child_nodes(tree):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{function}.{child.name}".strip(".")
        yield child, inside
        yield from _nodes(child, inside)


def _flips(node: ast.AST) -> Iterator[None]:
    """Flip the node in place, hand over, and put it back: once for each way to flip it."""
    match node:
        case ast.Compare(ops=operators):
            for place, operator in enumerate(list(operators)):
                operators[place] = OPPOSITES[type(operator)]()
                yield
                operators[place] = operator
        case ast.BoolOp(op=connective):
            node.op = ast.Or() if isinstance(connective, ast.And) else ast.And()
            yield
            node.op = connective
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            node.operand = ast.UnaryOp(ast.Not(), operand)
            yield
            node.operand = operand
        case ast.Return(value=ast.Constant(value=bool() as claim) as constant):
            constant.value = not claim
            yield
            constant.value = claim


@contextmanager
def copied(root: Path) -> Iterator["Copy"]:
    """A copy of the files that git tracks or would track, as they are now."""
    trusted = ("git", "-c", "safe.directory=*")  # whoever else checked it out
    listing = [*trusted, "ls-files", "-z", "-co", "--exclude-standard"]
    found = subprocess.run(listing, cwd=root, check=True, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="mutate-") as made:
        for name in filter(None, found.stdout.decode().split("\0")):
            if (root / name).is_file():
                target = Path(made, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, target)
        # A project of Assay is refused where it is no repository.
        subprocess.run([*trusted, "init", "--quiet", made], check=True)
        with _warm_tests(Path(made)) as tests:
            yield Copy(Path(made), tests)


@contextmanager
def _warm_tests(tree: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "infra/warm_tests.py")],
        cwd=tree,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as tests:
        try:
            yield tests
        finally:
            tests.kill()


@dataclass(frozen=True)
class Copy:
    """A copy of the tree, and the process that runs tests in it."""

    root: Path
    tests: "subprocess.Popen[str]"

    def pass_with(self, gate: Gate, source: str, seconds: float) -> bool:
        """Whether the gate's tests pass when the module has this source.

        Tests that do not end in time have noticed the flip: it made a loop without an end.
        """
        self._write(gate, source)
        code, _ = self._run(gate, seconds)
        if code is None:
            return False
        if code < 0 or code == _NO_TEST:
            raise BrokenSetup(
                f"On {gate.file} pytest was killed or found no test: {code}."
            )
        return code == 0

    def seconds_of_tests(self, gate: Gate) -> float:
        """Run the tests on the module as it is and on one that cannot be imported."""
        source = (self.root / gate.file).read_text(encoding="utf-8")
        plain = ast.unparse(ast.parse(source))
        imported = 1
        # The last of these runs imports no library, as the runs with a flip do not.
        while imported:
            begun = time.monotonic()
            self._write(gate, plain)
            code, imported = self._run(gate, _AT_MOST)
            if code != 0:
                raise BrokenSetup(
                    f"The tests of {gate.file} fail before anything is flipped."
                )
            took = time.monotonic() - begun
        if self.pass_with(gate, "raise RuntimeError", _AT_MOST):
            raise BrokenSetup(f"The tests of {gate.file} do not import the copy of it.")
        return took

    def survivors(
        self, gate: Gate, found: list[Mutant], console: Console
    ) -> Iterator[Mutant]:
        """The flips that the gate's tests do not notice; afterwards the copy is as it was."""
        source = (self.root / gate.file).read_text(encoding="utf-8")
        limit = 60 + 4 * self.seconds_of_tests(gate)
        for mutant in track(found, description=gate.file, console=console):
            if self.pass_with(gate, mutant.source, limit):
                yield mutant
        self._write(gate, source)

    def _write(self, gate: Gate, source: str) -> None:
        module = self.root / gate.file
        module.write_text(source, encoding="utf-8")
        for compiled in module.parent.glob(f"__pycache__/{module.stem}.*.pyc"):
            compiled.unlink()

    def _run(self, gate: Gate, seconds: float) -> tuple[int | None, int]:
        """The exit code of the gate's tests, and how many modules were imported for the next."""
        arguments = [*OPTIONS.split(), *gate.tests]
        asked, answered = self.tests.stdin, self.tests.stdout
        if asked is None or answered is None:
            raise BrokenSetup("infra/warm_tests.py was started without pipes.")
        asked.write(json.dumps({"arguments": arguments, "seconds": seconds}) + "\n")
        asked.flush()
        answer = answered.readline()
        if not answer:
            raise BrokenSetup(
                "infra/warm_tests.py has ended; its last words are above."
            )
        found = json.loads(answer)
        return found["code"], found["imported"]


def examine(
    copy: Copy, gate: Gate, kept: Kept, limit: int | None, console: Console
) -> int:
    """How much of this gate somebody has to look at: each thing is printed on a line."""
    tree = copy.root
    every = list(mutants(gate.file, (tree / gate.file).read_text(encoding="utf-8")))
    flips = {mutant.flip for mutant in every}
    stale = [flip for flip in kept if flip.file == gate.file and flip not in flips]
    asked = [mutant for mutant in every if mutant.flip not in kept][:limit]
    alive = 0
    for mutant in copy.survivors(gate, asked, console):
        flip, alive = mutant.flip, alive + 1
        say(console, f"{flip.file}:{mutant.line} in {flip.function}")
        say(console, f"  - {flip.before}\n  + {flip.after}")
    for flip in stale:
        say(console, f"{TABLE} keeps a flip that is no longer there: {flip}")
    say(console, f"{gate.file}: {len(asked)} flips, {alive} survived")
    return alive + len(stale)


def say(console: Console, text: str) -> None:
    """Print text as it is, brackets included."""
    console.print(text, markup=False, highlight=False)


def read_table(root: Path) -> tuple[list[Gate], Kept]:
    """The gates with their tests, and the flips that are known to change nothing."""
    table = tomllib.loads((root / TABLE).read_text(encoding="utf-8"))
    gates = [Gate(file, tuple(tests)) for file, tests in table["tests"].items()]
    kept = {
        Flip(*(entry[part] for part in Flip._fields)): entry["why"]
        for entry in table.get("equivalent", [])
    }
    return gates, kept


def main() -> int:
    """Exit code 1 when a flip survives without a kept reason, or a kept reason has no flip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", metavar="FILE", help="one gate of the table")
    parser.add_argument(
        "--limit", type=int, help="the first so many flips of each gate"
    )
    parser.add_argument(
        "--list", choices=("gates", "tests"), help="print them and stop"
    )
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    gates, kept = read_table(ROOT)
    chosen = [gate for gate in gates if options.only in (None, gate.file)]
    if not chosen:
        parser.error(f"{options.only} is no gate of {TABLE}")
    if options.list:
        tests = dict.fromkeys(test for gate in chosen for test in gate.tests)
        names = tests if options.list == "tests" else [gate.file for gate in chosen]
        say(console, "\n".join(names))
        return 0
    with copied(ROOT) as copy:
        bad = sum(examine(copy, gate, kept, options.limit, console) for gate in chosen)
    say(
        console,
        f"{bad} to look at" if bad else "Each flip was noticed or has its reason",
    )
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenSetup as error:
        sys.exit(f"mutate: {error}")
