"""The file of an own metric: read and looked at, never run here.

Only `metrics/NAME.py` of the project. A file that came with evidence or in a package is not read
by anything of Assay.
"""

import ast
import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import ParameterError
from pipelines import layout
from pipelines.values.own_metric import BUILT_IN, OwnMetricRecord, own_metric_path

MOST_BYTES = 1_000_000
"""A larger file holds data, which belongs into the rows."""


@dataclass(frozen=True)
class MetricFile:
    """The bytes of an own metric, read once: what is hashed is what is run."""

    name: str
    source: str
    sha256: str

    @property
    def path(self) -> str:
        """As people know it, from the project's root."""
        path = own_metric_path(self.name)
        return path.as_posix()


def read_metric_file(name: str, project: Path) -> MetricFile:
    """Read the file of an own metric of the project.

    `ParameterError` where there is none, where it is no Python, or where it imports another file
    of the folder: that one would not be part of the metric's identity.
    """
    path = own_metric_path(name)
    # A policy that limits chrf must not be met by a file of that name.
    if name in BUILT_IN:
        raise ParameterError(
            f"{name} is a metric of Assay, which {path} cannot replace. "
            "Give the file and its class another name."
        )
    content = _read(project / path, path)
    try:
        source = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path} is not UTF-8. Save it as UTF-8.") from error
    _check_imports(_parse(source, path), path)
    return MetricFile(name, source, hashlib.sha256(content).hexdigest())


def has_metric_file(name: str, project: Path) -> bool:
    """Whether the project has a file for a metric of that name, whatever it holds."""
    try:
        path = own_metric_path(name)
    except ParameterError:
        return False
    return (project / path).exists()


def find_same_file(record: OwnMetricRecord, project: Path | None) -> MetricFile:
    """The project's own file, where it is the one that counted.

    `ParameterError` where it is not here, or has other bytes.
    """
    path = record.path
    if project is None:
        raise ParameterError(
            f"{path} is not here. Ask in the project that has it, at the commit of the run."
        )
    file = read_metric_file(record.name, project)
    # Of the bytes: another comment could be another way of counting just as well.
    if file.sha256 != record.sha256:
        raise ParameterError(
            f"{path} is {file.sha256[:12]} here, and {record.sha256[:12]} counted. "
            "Check out the commit of the run, or train again."
        )
    return file


def _read(path: Path, name: Path) -> bytes:
    try:
        status = path.lstat()
        # A link would let one name stand for a file that git does not keep.
        if not stat.S_ISREG(status.st_mode):
            raise ParameterError(f"{name} is no file of its own. Put the metric there.")
        if status.st_size > MOST_BYTES:
            raise ParameterError(
                f"{name} holds {status.st_size:,} bytes, and a metric at most "
                f"{MOST_BYTES:,}. Take the data out of it."
            )
        return path.read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{name} cannot be read ({error.strerror}). "
            f"Write the metric there, or take {name.stem} out of score.metrics."
        ) from error


def _parse(source: str, path: Path) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise ParameterError(
            f"{path} line {error.lineno} is no Python ({error.msg}). Correct it."
        ) from error
    # A null byte is a ValueError; thousands of brackets are one of the others.
    except (ValueError, RecursionError, MemoryError) as error:
        kind = type(error).__name__
        raise ParameterError(f"{path} is no Python ({kind}). Correct it.") from error


def _check_imports(tree: ast.Module, path: Path) -> None:
    folder = layout.OWN_METRICS.name
    # Also inside functions, which are run later.
    for node in ast.walk(tree):
        for imported in _imported(node):
            package, _, _ = imported.partition(".")
            # Nothing stands before the dot of a relative one.
            if package not in ("", folder):
                continue
            line = getattr(node, "lineno", 0)
            raise ParameterError(
                f"{path} line {line} imports {imported}, and a metric is one file. "
                "Write it into the same file."
            )


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name
    if isinstance(node, ast.ImportFrom):
        dots = "." * node.level
        yield f"{dots}{node.module or ''}"
