"""Whether evidence names the examples that lie beside it, for each baseline that has any."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.models.retrieval import best_count
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.dataset import ValidationReport
from pipelines.values.evidence import Scorecard
from pipelines.values.examples import FewShotChoice, Retrieved

FEW_SHOT = "few_shot_examples.json"
RETRIEVED = "retrieved_examples.json"


def prefix_differences(
    folder: Path, scorecard: Scorecard, evidence: Evidence
) -> Iterator[str]:
    """Where a baseline answered after other examples than the folder's files say.

    Or where a prompt is called a baseline that it is not, and so was not compared with.
    `DamagedFile` where a file is missing or cannot be read.
    """
    named = evidence.prefixes
    # Evidence from before prefixes were kept names none of the few-shot base.
    if "few_shot" in named:
        choice = FewShotChoice.read(folder / FEW_SHOT)
        if choice.prefix_sha256 != named["few_shot"]:
            yield f"evidence.few_shot: it was answered after others than {FEW_SHOT}"
    candidate = scorecard.adapter.prompt
    if candidate is not None and candidate.contradicts(named.get("few_shot")):
        yield "adapter.prompt: it is not the few-shot baseline that it says it is"
    if "retrieval" in evidence.rows:
        yield from retrieved_differences(folder, evidence, RETRIEVED)


def retrieved_differences(folder: Path, evidence: Evidence, name: str) -> Iterator[str]:
    """Where the record `name` is not that of what stood before the evidence's prompts."""
    retrieved = Retrieved.read(folder / name)
    if evidence.prefixes.get("retrieval") != retrieved.prefix_sha256:
        yield f"evidence.retrieval: it was answered after others than {name}"
    # An index of other rows could hold the held-out ones, and their answers.
    validation = ValidationReport.read(folder / "validation_report.json")
    train = validation.splits.get("train")
    if train is None or retrieved.train_sha256 != train.sha256:
        yield f"{name}: its index is not the training rows that were validated"
    prompts = {row.row.prompt_id for row in evidence.rows["retrieval"]}
    if set(retrieved.found) != prompts:
        yield f"{name}: it is about other prompts than the evidence"
    # The fewer rows stand there, the easier it is to be better than them.
    best = best_count(retrieved.dev_nats_per_token)
    if retrieved.examples != best:
        yield (
            f"{name}: {retrieved.examples} rows were put before a prompt, "
            f"and {best} are the best by its dev losses"
        )
    most = max((len(rows) for rows in retrieved.found.values()), default=0)
    if most > retrieved.examples:
        yield (
            f"{name}: {most} rows stand before a prompt, "
            f"and {retrieved.examples} were chosen on dev"
        )
