"""Command validity: the share of answers that bash can parse. The example of a metric that a user adds."""

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from core.errors import ParameterError, UnusableRow
from pipelines.metrics.metric import FloatArray, ScoredRow

SECONDS = 10


class CommandValidity:
    """Share of answers, 0 to 1, that `bash -n` accepts; an empty answer is not valid.

    It says that bash can parse the text, not that the command exists or does what was asked: most plain words parse.
    """

    name = "command_validity"
    unit = "share, 0 to 1"
    higher_is_better = True
    scale = 1.0
    worst: float | None = 0.0
    compares_answers = False
    stand_in: str | None = None

    def row_statistics(self, row: ScoredRow) -> tuple[float, ...]:
        """Whether the answer parses, and one row."""
        try:
            return float(_parses(row.prediction)), 1.0
        except subprocess.TimeoutExpired as error:
            raise UnusableRow(
                f"bash took over {SECONDS} s to parse the answer to prompt {row.prompt_id}. Look at that answer."
            ) from error

    def corpus(self, sums: FloatArray) -> FloatArray:
        """Valid answers over rows."""
        return sums[..., 0] / sums[..., 1]

    def signature(self, rows: Sequence[ScoredRow]) -> str:
        """Which bash parsed: versions differ in what they accept."""
        return f"parser:bash -n|version:{_version()}"


@cache
def _bash() -> str:
    path = shutil.which("bash")
    if path is None:
        raise ParameterError(
            "command_validity needs bash, and this machine has none. Install it, or take the metric out of score.metrics."
        )
    return path


@cache
def _version() -> str:
    answer = subprocess.run(
        [_bash(), "--norc", "--noprofile", "-c", 'printf %s "$BASH_VERSION"'],
        capture_output=True,
        check=True,
        env={},
    )
    return answer.stdout.decode()


@cache
def _parses(text: str) -> bool:
    """`-n` reads and never executes; without an environment no BASH_ENV or imported function runs either."""
    if not text.strip():
        return False
    command = [_bash(), "--norc", "--noprofile", "-n"]
    answer = subprocess.run(
        command,
        input=text.encode(),
        capture_output=True,
        check=False,
        timeout=SECONDS,
        env={},
        cwd="/",
    )
    if answer.returncode < 0:
        raise UnusableRow(
            f"bash died of signal {-answer.returncode} while it parsed {text[:60]!r}. Look at that answer."
        )
    return answer.returncode == 0
