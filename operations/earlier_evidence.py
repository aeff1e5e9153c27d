"""What an earlier run's evidence says of the power of the next one, before that is trained.

Looked for among the artifacts that this home's own MLflow keeps; a team's server is not asked.
"""

from collections.abc import Iterator
from pathlib import Path

from core.errors import AssayError
from pipelines.gates.policy import ScreenPolicy
from pipelines.gates.what_passes import describe_power
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.values.dataset import Prompt

_MOST_READ = 5
"""Files that are read at most: a year of nights leaves hundreds."""


def describe_earlier_power(
    home: Path, prompts: tuple[Prompt, ...], policy: ScreenPolicy
) -> tuple[str, ...]:
    """Sentences from the newest evidence on these very prompts; none where there is none."""
    ids = {prompt.id for prompt in prompts}
    for evidence in _newest_first(home):
        rows = evidence.rows.get("adapter", ())
        # Of other prompts the spread is another.
        if {row.row.prompt_id for row in rows} == ids:
            return describe_power(evidence, policy)
    return ()


def _newest_first(home: Path) -> Iterator[Evidence]:
    artifacts = home / "mlflow-artifacts"
    found = artifacts.glob("**/evidence.parquet")
    # By their time: the names of runs are random and have no order.
    paths = sorted(
        found,
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for path in paths[:_MOST_READ]:
        try:
            yield read_evidence(path)
        # An estimate does not end for a file that was damaged or erased meanwhile.
        except (AssayError, OSError):
            continue
