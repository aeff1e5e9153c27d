"""What tasks of lm-evaluation-harness said of a version: for people, and for its run in MLflow."""

import re
from collections.abc import Iterator

from core.files import digest_of_json
from core.value import Value
from operations.harness.ask import HarnessTasks
from operations.harness.results import AskedTask, HarnessScore

FOLDER = "lm_eval"
"""Among the artifacts of a run."""
_LONGEST_NAME = 80
# What MLflow takes in the name of a metric, and any file system in that of a file.
_OTHER_LETTERS = re.compile(r"[^A-Za-z0-9_./ -]")
_SLASHES = re.compile(r"[/ ]")


class HarnessReport(Value):
    """What was asked of which version, by which program, and the scores."""

    model: str
    version: str
    package_sha256: str
    base_digest: str
    lm_eval: str
    tasks: HarnessTasks
    folder_sha256: str | None
    """Digest of the files of tasks of one's own."""
    asked: tuple[AskedTask, ...]
    scores: tuple[HarnessScore, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """The report for people, a sentence a line."""
        version = f"version {self.version} of {self.model}"
        lines = [f"lm_eval {self.lm_eval} on {version}, against its base:"]
        documents = {task.name: task.documents for task in self.asked}
        for score in self.scores:
            count = documents[score.measure.task]
            lines.append(f"{_describe(score)} ({count} documents)")
        if self.tasks.limit is not None:
            lines.append(f"At most {self.tasks.limit} documents a task: this is a try.")
        lines.append("No gate judges these scores.")
        return tuple(lines)

    @property
    def file_name(self) -> str:
        """By what was asked: other tasks, or another number of documents, are another file."""
        names = "-".join(self.tasks.names)
        letters = _OTHER_LETTERS.sub("_", names)
        readable = _SLASHES.sub("_", letters)[:_LONGEST_NAME]
        digest = digest_of_json(self.tasks.model_dump(mode="json"))
        return f"{readable}-{digest[:8]}.json"

    @property
    def metrics(self) -> dict[str, float]:
        """`lm_eval/TASK/METRIC.adapter` and `.base`; also `.better`, with its bounds.

        Those of a try stand under `lm_eval_try`: fewer documents are no newer score of the task.
        """
        folder = FOLDER if self.tasks.limit is None else f"{FOLDER}_try"
        return dict(_metrics(folder, self.scores))


def _metrics(
    folder: str, scores: tuple[HarnessScore, ...]
) -> Iterator[tuple[str, float]]:
    for score in scores:
        title = _OTHER_LETTERS.sub("_", score.measure.title)
        name = f"{folder}/{title}"
        if score.adapter is not None:
            yield f"{name}.adapter", score.adapter
        if score.base is not None:
            yield f"{name}.base", score.base
        found = score.difference
        if found is not None:
            yield f"{name}.better", found.estimate
            yield f"{name}.better.low", found.low
            yield f"{name}.better.high", found.high


def _describe(score: HarnessScore) -> str:
    numbers = f"adapter {_show(score.adapter)}, base {_show(score.base)}"
    line = f"{score.measure.title}: {numbers}"
    found = score.difference
    if found is None:
        return f"{line}; no bounds: {score.unbounded}"
    bounds = f"bounds {found.low:.3g} to {found.high:.3g}"
    return f"{line}; better by {found.estimate:.3g}, {bounds}"


def _show(score: float | None) -> str:
    return "none" if score is None else f"{score:.4g}"
