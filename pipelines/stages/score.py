"""Score every system on the held-out prompts and keep, for each answer, what the verdict is computed from."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import write_jsonl
from core.value import FileDigest
from pipelines.gates.policy import load_policy
from pipelines.metrics import Metric, ScoredRow, metric_named
from pipelines.metrics.evaluate_modules import MODULES, evaluate_score
from pipelines.rows.contents import contents_of
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, Statistics, evidence_of, write_evidence
from pipelines.scoring.observations import NAMED_ANSWERS, named_answers, output_bias_of
from pipelines.statistics.bootstrap import interval, sums_by_group
from pipelines.values.dataset import Prompt
from pipelines.values.evidence import MetricScore, Resampling, Scorecard, System, SystemScore
from pipelines.values.params import Params, load_params
from pipelines.values.trial import SystemAnswers, Trial, read_trial

INTO = Path("data/score")
POLICY = Path("registry/policies/default.yaml")
TOLERANCE = 1e-6


def score(trial: Trial, params: Params, min_group_size: int, into: Path) -> Scorecard:
    """Score base, few-shot base, adapter and, where there is one, champion; the evidence file is written below `into`."""
    metrics = tuple(metric_named(name) for name in params.score.metrics)
    resampling = Resampling(resamples=params.score.resamples, seed=params.score.seed)
    evidence = evidence_from(trial, metrics)
    agree_with_evaluate(evidence, metrics)
    named = named_answers(trial)
    write_evidence(into / "evidence.parquet", evidence)
    write_jsonl(into / NAMED_ANSWERS, (answer.model_dump(mode="json") for answer in named))
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
    scores = [(system.system, system.metric(metric).interval) for system in scorecard.systems]
    figures = ", ".join(f"{system} {found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]" for system, found in scores)
    return f"{metric}: {figures} on {scorecard.prompts} prompts in {scorecard.clusters} clusters"


def evidence_from(trial: Trial, metrics: Sequence[Metric]) -> Evidence:
    """Every system's rows with their statistics; a system without an answer or a loss for every prompt raises."""
    controls = control_prompts(trial.prompts)
    rows = [row for system in trial.systems for row in _rows_of(trial, trial.answers(system.system), controls)]
    makers = {system.system: system.completions.spec for system in trial.systems}
    return with_statistics(rows, metrics).model_copy(update={"made_by": makers})


def with_statistics(rows: Sequence[EvidenceRow], metrics: Sequence[Metric]) -> Evidence:
    """Fill in each metric's statistics and, where a row names a control prompt, those against that prompt's references."""
    references = {row.row.prompt_id: row.row.references for row in rows}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return evidence_of(pool.map(lambda row: _filled(row, metrics, references), rows))


def control_prompts(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """For each prompt one of another group, always the same: no prompt is used twice unless one group holds over half of all.

    Groups stand in the order of their hash, not of their names, since names that sort together (`apt`, `apt-get`) mean much
    the same. Moving on by the size of the largest group leaves every group.
    """
    ordered = sorted(prompts, key=lambda prompt: (hashlib.sha256(prompt.group.encode()).hexdigest(), prompt.id))
    groups = [prompt.group for prompt in ordered]
    if len(set(groups)) < 2:
        raise IncompleteEvidence(f"The held-out split has {len(set(groups))} group: nothing can be compared. Bring rows of more groups.")
    ((_, step),) = Counter(groups).most_common(1)
    return {prompt.id: _other_group(ordered, place, step) for place, prompt in enumerate(ordered)}


def agree_with_evaluate(evidence: Evidence, metrics: Sequence[Metric]) -> None:
    """Compute BLEU and chrF once more through `evaluate`: a score is reported only where both ways give the same number."""
    for metric in metrics:
        for system, rows in evidence.rows.items() if metric.name in MODULES else ():
            ours = float(metric.corpus(evidence.statistics(system, metric.name).sum(axis=0)))
            theirs = evaluate_score(metric.name, [row.row.prediction for row in rows], [row.row.references for row in rows])
            if not abs(ours - theirs) <= TOLERANCE:
                raise IncompleteEvidence(
                    f"{metric.name} of {system} is {ours!r} from its statistics and {theirs!r} from evaluate. Install requirements.lock."
                )


def system_scores(evidence: Evidence, metrics: Sequence[Metric], resampling: Resampling) -> tuple[SystemScore, ...]:
    """Every metric of every system with its interval, from the evidence alone."""
    return tuple(
        SystemScore(system=system, metrics=tuple(metric_score(evidence, system, metric, resampling) for metric in metrics))
        for system in evidence.rows
    )


def metric_score(evidence: Evidence, system: System, metric: Metric, resampling: Resampling) -> MetricScore:
    """One metric of one system."""
    sums = sums_by_group(evidence.clusters, evidence.statistics(system, metric.name))
    return MetricScore(
        name=metric.name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        interval=interval(metric, sums, resampling),
        n=len(evidence.groups),
        clusters=len(sums),
        signature=metric.signature([row.row for row in evidence.rows[system]]),
    )


def _filled(row: EvidenceRow, metrics: Sequence[Metric], references: dict[str, tuple[str, ...]]) -> EvidenceRow:
    control: Statistics = {}
    if row.control_prompt_id is not None:
        if row.control_prompt_id not in references:
            raise IncompleteEvidence(f"The control of prompt {row.row.prompt_id} is no prompt of the evidence. Run the score stage again.")
        swapped = row.row.model_copy(update={"references": references[row.control_prompt_id]})
        control = {metric.name: metric.row_statistics(swapped) for metric in metrics if metric.compares_answers}
    return row.model_copy(update={"statistics": {metric.name: metric.row_statistics(row.row) for metric in metrics}, "control": control})


def _rows_of(trial: Trial, answers: SystemAnswers, controls: dict[str, Prompt]) -> list[EvidenceRow]:
    texts = {answer.prompt_id: answer.text for answer in answers.answers}
    losses = {(loss.prompt_id, loss.reference): loss for loss in answers.losses}
    contents = dict(zip((prompt.id for prompt in trial.prompts), contents_of(trial.prompts), strict=True))
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
                losses=tuple(losses[prompt.id, number] for number in range(len(prompt.references))),
            ),
            statistics={},
            control_prompt_id=controls[prompt.id].id if is_adapter else None,
            control={},
        )
        for prompt in trial.prompts
    ]


def _other_group(ordered: Sequence[Prompt], place: int, step: int) -> Prompt:
    reached = (ordered[(place + step + more) % len(ordered)] for more in range(len(ordered)))
    return next(prompt for prompt in reached if prompt.group != ordered[place].group)
