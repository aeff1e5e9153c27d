"""A project with a metric of its own: the share of words that an answer loses."""

from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

import yaml

from pipelines.gates.policy import Policy, load_policy
from pipelines.scoring.evidence_file import read_evidence
from pipelines.stages.score import score
from pipelines.values.evidence import Scorecard
from pipelines.values.params import override
from pipelines.values.trial import Trial
from registry.release.own_metrics import copy_name
from tests.support import trials

NAME = "word_error"
MEMBERS = """\
    name = "word_error"
    unit = "share of words"
    higher_is_better = False
    scale = 1.0
    worst = 1.0
    compares_answers = True
"""
COUNTS = """\
        said = row.prediction.split()
        best = 1.0
        for reference in row.references:
            words = reference.split()
            lost = [word for word in words if word not in said]
            best = min(best, len(lost) / len(words))
        return best, 1.0
"""


def source(members: str = MEMBERS, counts: str = COUNTS, before: str = "") -> str:
    """The text of a metric's file."""
    return f"{before}class WordError:\n{members}\n    def row_statistics(self, row):\n{counts}"


def write_metric(project: Path, text: str | None = None, name: str = NAME) -> Path:
    """Write the file of a metric into a project."""
    path = project / "metrics" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source() if text is None else text, encoding="utf-8")
    return path


def policy_text(**screen: object) -> str:
    """The default policy with the own metric in the primary's place, as YAML."""
    document = yaml.safe_load(trials.POLICY.read_text(encoding="utf-8"))
    document["screen"] |= {
        "primary": NAME,
        "smallest_effect": 0.05,
        "own_metrics": {NAME: 1.0},
        "resamples": 1000,
        # The tests' rows are too few to seal half of them.
        "reserve": "none",
        "guardrails": [{"metric": "chrf", "margin": 1.0}],
        **screen,
    }
    return yaml.safe_dump(document)


def policy(folder: Path, **screen: object) -> Policy:
    """The same, loaded from a file in a folder."""
    path = folder / "policy.yaml"
    path.write_text(policy_text(**screen), encoding="utf-8")
    return load_policy(path)


def scored(project: Path, into: Path, trial: Trial | None = None) -> Scorecard:
    """What the stage `score` gives in a project whose parameters name the metric."""
    params = trials.params(metrics=("chrf", NAME))
    with chdir(project):
        return score(trial or trials.trial(), params, 20, into)


def write_folder(folder: Path, project: Path, trial: Trial | None = None) -> Scorecard:
    """What a run of the project leaves, as `trials.write_folder` does."""
    whole = trials.write_folder(folder)
    (folder / "policy.yaml").write_text(policy_text(), encoding="utf-8")
    override(folder / "params.yaml", {"score.metrics": ["chrf", NAME]})
    kept = {
        name: getattr(whole, name) for name in ("held_out_sha256", "dataset_digest")
    }
    card = scored(project, folder, trial).model_copy(update=kept)
    copy = folder / copy_name(NAME)
    copy.parent.mkdir()
    copy.write_bytes((project / "metrics" / f"{NAME}.py").read_bytes())
    trials.write_verdict(folder, card)
    return card


@contextmanager
def edited_evidence(folder: Path) -> Iterator[dict[str, object]]:
    """Edit the evidence of a folder, and have scorecard and verdict follow from it."""
    from core.value import FileDigest
    from pipelines.scoring.evidence_file import write_evidence
    from pipelines.scoring.scores import system_scores

    path = folder / "evidence.parquet"
    update: dict[str, object] = {}
    yield update
    evidence = read_evidence(path).model_copy(update=update)
    write_evidence(path, evidence)
    card = Scorecard.read(folder / "scorecard.json")
    metrics = [evidence.metric_named(name) for name in evidence.metrics]
    digest = card.evidence.model_copy(update={"sha256": FileDigest.of(path).sha256})
    systems = system_scores(evidence, metrics, card.resampling)
    forged = card.model_copy(update={"evidence": digest, "systems": systems})
    trials.write_verdict(folder, forged)
