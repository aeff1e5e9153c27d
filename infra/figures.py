"""Print how dense the code is, and say where it misses its targets.

    python infra/figures.py [FOLDER…]

The targets come from reading other people's code with this same script: httpx, click, fastapi and
starlette carry 6 to 9 AST nodes a code line. A full line hides what it does.
"""

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("core", "pipelines", "registry", "serving", "flows", "operations", "cli")
LONGEST_LINE = 100
MOST_NODES_MEDIAN = 8.0
MOST_NODES_P90 = 12.0
MOST_LINES_MEDIAN = 10.0
LINES_PER_COMMENT = 20.0
FEWEST_ERRORS_NAMED = 0.5
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Function:
    """One function: where it is, how long, and how many AST nodes a code line of its body has."""

    place: str
    lines: int
    nodes_per_line: float
    is_public: bool
    raises: frozenset[str]
    docstring: str

    @property
    def names_its_errors(self) -> bool:
        """Whether the docstring names at least one of the errors that the body raises."""
        return any(name in self.docstring for name in self.raises)


@dataclass(frozen=True)
class Figures:
    """What is counted over some folders."""

    functions: tuple[Function, ...]
    code_lines: int
    comment_lines: int
    long_lines: tuple[str, ...]

    @property
    def nodes_median(self) -> float:
        """AST nodes a code line, of the median function."""
        return statistics.median(each.nodes_per_line for each in self.functions)

    @property
    def nodes_p90(self) -> float:
        """AST nodes a code line that nine of ten functions stay under."""
        return _percentile([each.nodes_per_line for each in self.functions], 0.9)

    @property
    def lines_median(self) -> float:
        """Lines of the median function, signature and docstring included."""
        return statistics.median(each.lines for each in self.functions)

    @property
    def lines_per_comment(self) -> float:
        """Code lines for each line that has a comment."""
        return self.code_lines / max(1, self.comment_lines)

    @property
    def errors_named(self) -> float:
        """Share of public functions with a `raise` whose docstring names an error.

        1 where none raises.
        """
        raising = [each for each in self.functions if each.is_public and each.raises]
        if not raising:
            return 1.0
        return sum(each.names_its_errors for each in raising) / len(raising)


def measure(folders: tuple[str, ...], root: Path = ROOT) -> Figures:
    """Count over every Python file below the folders."""
    paths = [
        path for folder in folders for path in sorted((root / folder).rglob("*.py"))
    ]
    functions: list[Function] = []
    long_lines: list[str] = []
    code_lines = comment_lines = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        place = path.relative_to(root).as_posix()
        functions += _functions(text, place)
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LONGEST_LINE:
                long_lines.append(f"{place}:{number}")
        with_code, with_comment = _count_lines(text)
        code_lines += with_code
        comment_lines += with_comment
    return Figures(tuple(functions), code_lines, comment_lines, tuple(long_lines))


def missed_targets(figures: Figures) -> tuple[str, ...]:
    """A sentence for each target that the figures miss."""
    checks = (
        (
            figures.nodes_median <= MOST_NODES_MEDIAN,
            "AST nodes a line: the median is over",
        ),
        (
            figures.nodes_p90 <= MOST_NODES_P90,
            "AST nodes a line: the 90th percentile is over",
        ),
        (
            figures.lines_median <= MOST_LINES_MEDIAN,
            "lines a function: the median is over",
        ),
        (
            not figures.long_lines,
            f"there are lines over {LONGEST_LINE} characters, beside",
        ),
        (
            figures.lines_per_comment <= LINES_PER_COMMENT,
            "code lines a comment: there are over",
        ),
        (
            figures.errors_named >= FEWEST_ERRORS_NAMED,
            "docstrings that name errors are under",
        ),
    )
    limits = (
        MOST_NODES_MEDIAN,
        MOST_NODES_P90,
        MOST_LINES_MEDIAN,
        0,
        LINES_PER_COMMENT,
        FEWEST_ERRORS_NAMED,
    )
    pairs = zip(checks, limits, strict=True)
    return tuple(f"{fact} {limit:g}" for (is_met, fact), limit in pairs if not is_met)


def _functions(text: str, place: str) -> Iterator[Function]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            body = node.body if docstring is None else node.body[1:]
            if body:
                yield _function(node, body, docstring or "", lines, place)


def _function(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    body: list[ast.stmt],
    docstring: str,
    lines: list[str],
    place: str,
) -> Function:
    end = body[-1].end_lineno or body[-1].lineno
    texts = [line.strip() for line in lines[body[0].lineno - 1 : end]]
    code = [line for line in texts if line and not line.startswith("#")]
    nodes = sum(1 for statement in body for _ in ast.walk(statement))
    return Function(
        place=f"{place}:{node.lineno} {node.name}",
        lines=end - node.lineno + 1,
        nodes_per_line=nodes / len(code),
        is_public=not node.name.startswith("_"),
        raises=frozenset(_raised(body)),
        docstring=docstring,
    )


def _raised(body: list[ast.stmt]) -> Iterator[str]:
    """Names of the errors that the statements raise by themselves, nested functions aside."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = node.exc.func
            if isinstance(name, ast.Name) and name.id[0].isupper():
                yield name.id
        pending.extend(ast.iter_child_nodes(node))


def _count_lines(text: str) -> tuple[int, int]:
    """Lines with code, and lines with a comment."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type not in _NO_CODE:
            code.update(lines)
    return len(code), len(comments)


def _percentile(numbers: list[float], share: float) -> float:
    return sorted(numbers)[int(share * len(numbers))]


def main() -> int:
    """Print the figures, the densest functions and the long lines; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", default=SOURCES)
    parser.add_argument(
        "--worst", type=int, default=0, help="so many of the densest functions"
    )
    arguments = parser.parse_args()
    figures = measure(tuple(arguments.folders))
    print(f"functions            {len(figures.functions)}")
    print(
        f"AST nodes a line     median {figures.nodes_median:.1f}, p90 {figures.nodes_p90:.1f}"
    )
    print(f"lines a function     median {figures.lines_median:g}")
    print(f"lines over {LONGEST_LINE}       {len(figures.long_lines)}")
    print(f"code lines a comment {figures.lines_per_comment:.0f}")
    print(
        f"errors in docstrings {figures.errors_named:.0%} of public functions that raise"
    )
    densest = sorted(figures.functions, key=lambda each: -each.nodes_per_line)
    for each in densest[: arguments.worst]:
        print(f"  {each.nodes_per_line:5.1f}  {each.place}")
    for place in figures.long_lines[: arguments.worst]:
        print(f"  long   {place}")
    missed = missed_targets(figures)
    for sentence in missed:
        print(f"missed: {sentence}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
