"""Score every system on the held-out prompts and keep, for each answer, what the verdict is computed from."""

import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import write_jsonl
from core.value import FileDigest
from pipelines import layout
from pipelines.gates.policy import load_policy
from pipelines.metrics import Metric, ScoredRow, metric_named
from pipelines.metrics.evaluate_modules import MODULES, evaluate_score
from pipelines.rows.contents import contents_of
from pipelines.scoring.controls import control_prompts
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, write_evidence
from pipelines.scoring.observations import NAMED_ANSWERS, named_answers, output_bias_of
from pipelines.scoring.scores import system_scores, with_statistics
from pipelines.values.dataset import Prompt
from pipelines.values.evidence import Resampling, Scorecard
from pipelines.values.params import Params, load_params
from pipelines.values.trial import SystemAnswers, Trial, read_trial

INTO = layout.SCORE
POLICY = layout.POLICY
TOLERANCE = 1e-6


def score(trial: Trial, params: Params, min_group_size: int, into: Path) -> Scorecard:
    """Score base, few-shot base, adapter and, where there is one, champion; the evidence file is written below `into`."""
    metrics = tuple(metric_named(name) for name in params.score.metrics)
    resampling = Resampling(resamples=params.score.resamples, seed=params.score.seed)
    evidence = evidence_from(trial, metrics)
    agree_with_evaluate(evidence, metrics)
    named = named_answers(trial)
    write_evidence(into / "evidence.parquet", evidence)
    write_jsonl(
        into / NAMED_ANSWERS, (answer.model_dump(mode="json") for answer in named)
    )
    return Scorecard(
        dataset_digest=trial.dataset_digest,
        held_out_sha256=trial.held_out_sha256,
        adapter=trial.adapter,
        spec=trial.answers("adapter").completions.spec,
        prompts=len(trial.prompts),
        clusters=len(set(evidence.clusters)),
        groups=len(set(evidence.groups)),
        contents=len(set(evidence.contents)),
        systems=system_scores(evidence, metrics, resampling),
        evidence=FileDigest.of(into / "evidence.parquet"),
        resampling=resampling,
        bias=output_bias_of(evidence, named, params, min_group_size),
        named_answers=FileDigest.of(into / NAMED_ANSWERS),
    )


def main() -> int:
    """Write the scorecard and its evidence."""
    params = load_params()
    min_group_size = load_policy(POLICY).gates.admit.min_group_size
    scorecard = score(read_trial(), params, min_group_size, INTO)
    scorecard.write(INTO / "scorecard.json")
    sys.stdout.write(f"{summary(scorecard, params.score.metrics[0])}\n")
    return 0


def summary(scorecard: Scorecard, metric: str) -> str:
    """One line: the first metric of every system with its interval."""
    scores = [
        (system.system, system.metric(metric).interval) for system in scorecard.systems
    ]
    figures = ", ".join(
        f"{system} {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"
        for system, found in scores
    )
    return f"{metric}: {figures} on {scorecard.prompts} prompts in {scorecard.clusters} clusters"


def evidence_from(trial: Trial, metrics: Sequence[Metric]) -> Evidence:
    """Every system's rows with their statistics; a system without an answer or a loss for every prompt raises."""
    controls = control_prompts(trial.prompts)
    rows = [
        row
        for system in trial.systems
        for row in _rows_of(trial, trial.answers(system.system), controls)
    ]
    makers = {system.system: system.completions.spec for system in trial.systems}
    return with_statistics(rows, metrics).model_copy(update={"made_by": makers})


def agree_with_evaluate(evidence: Evidence, metrics: Sequence[Metric]) -> None:
    """Compute BLEU and chrF once more through `evaluate`: a score is reported only where both ways give the same number."""
    for metric in metrics:
        for system, rows in evidence.rows.items() if metric.name in MODULES else ():
            ours = float(
                metric.corpus(evidence.statistics(system, metric.name).sum(axis=0))
            )
            theirs = evaluate_score(
                metric.name,
                [row.row.prediction for row in rows],
                [row.row.references for row in rows],
            )
            if not abs(ours - theirs) <= TOLERANCE:
                raise IncompleteEvidence(
                    f"{metric.name} of {system} is {ours!r} from its statistics and {theirs!r} from evaluate. Install requirements.lock."
                )


def _rows_of(
    trial: Trial, answers: SystemAnswers, controls: dict[str, Prompt]
) -> list[EvidenceRow]:
    texts = {answer.prompt_id: answer.text for answer in answers.answers}
    losses = {(loss.prompt_id, loss.reference): loss for loss in answers.losses}
    contents = dict(
        zip(
            (prompt.id for prompt in trial.prompts),
            contents_of(trial.prompts),
            strict=True,
        )
    )
    is_adapter = answers.system == "adapter"
    return [
        EvidenceRow(
            system=answers.system,
            group=prompt.group,
            feature=prompt.feature,
            content=contents[prompt.id],
            row=ScoredRow(
                prompt_id=prompt.id,
                prediction=texts[prompt.id],
                references=prompt.references,
                losses=tuple(
                    losses[prompt.id, number]
                    for number in range(len(prompt.references))
                ),
            ),
            statistics={},
            control_prompt_id=controls[prompt.id].id if is_adapter else None,
            control={},
        )
        for prompt in trial.prompts
    ]
