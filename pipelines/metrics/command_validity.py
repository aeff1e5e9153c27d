"""Command validity: the share of answers that bash can parse.

It is the example of a metric that a user adds.
"""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from core.errors import ParameterError, UnusableRow
from pipelines.metrics.metric import FloatArray, References, ScoredRow

SECONDS = 10  # bash parses an answer in milliseconds, unless it nests very deeply


class CommandValidity:
    """Share of answers, 0 to 1, that `bash -n` accepts; an empty answer is not valid.

    Bash can parse the text, which says neither that the command exists nor that it does what was
    asked: most plain words parse.
    """

    name = "command_validity"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the answer parses, and one row; `UnusableRow` where bash does not finish."""
        try:
            is_valid = _parses(row.prediction)
        except subprocess.TimeoutExpired as error:
            raise UnusableRow(
                f"bash took over {SECONDS} s to parse the answer to prompt {row.prompt_id}. "
                "Look at that answer."
            ) from error
        return float(is_valid), 1.0

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Valid answers over rows."""
        valid = sums[..., 0]
        rows = sums[..., 1]
        return valid / rows

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """Which bash parsed: versions differ in what they accept."""
        return f"parser:bash -n|version:{_version()}"

    def inapplicable(self, references: References) -> str | None:
        """Everywhere."""
        return None


@cache
def _bash() -> str:
    path = shutil.which("bash")
    if path is None:
        raise ParameterError(
            "command_validity needs bash, and this machine has none. "
            "Install it, or take the metric out of score.metrics."
        )
    return path


@cache
def _version() -> str:
    script = 'printf %s "$BASH_VERSION"'
    process = subprocess.run(
        [_bash(), "--norc", "--noprofile", "-c", script],
        capture_output=True,
        check=True,
        env={},
    )
    return process.stdout.decode()


@cache
def _parses(text: str) -> bool:
    """Whether bash accepts the text, which is read and never executed."""
    if not text.strip():
        return False
    command = [_bash(), "--norc", "--noprofile", "-n"]
    # -n executes nothing; the empty environment keeps BASH_ENV and imported functions away too.
    process = subprocess.run(
        command,
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env={},
        cwd="/",
    )
    if process.returncode < 0:
        raise UnusableRow(
            f"bash died of signal {-process.returncode} while it parsed {text[:60]!r}. "
            "Look at that answer."
        )
    return process.returncode == 0
