"""Stage `score`: score every system on the held-out prompts.

In: the answers and losses of base, few-shot base, adapter, champion and anchor.
Out: `data/score` with the scorecard; `evidence.parquet`, which holds for each answer what the
verdict is computed from; and the answers that were asked for in persons' names.
Refuses: a system without an answer or a loss for every prompt, and a metric on which two ways of
computing it disagree.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import IncompleteEvidence
from core.files import write_jsonl
from core.value import FileDigest
from pipelines import layout
from pipelines.code_tasks.scored import humaneval_of
from pipelines.gates.policy import load_policy
from pipelines.metrics import Metric, ScoredRow, metric_named, own_metric_file
from pipelines.metrics.evaluate_modules import MODULES, evaluate_score
from pipelines.metrics.own import count_rows
from pipelines.metrics.own_file import MetricFile
from pipelines.rows.contents import digest_contents
from pipelines.safety.scored import safety_of
from pipelines.scoring.controls import control_prompts
from pipelines.scoring.evidence_file import Evidence, EvidenceRow, write_evidence
from pipelines.scoring.observations import NAMED_ANSWERS, named_answers, output_bias_of
from pipelines.scoring.samples import list_answers
from pipelines.scoring.scores import (
    list_scored_rows,
    system_scores,
    with_statistics,
)
from pipelines.scoring.wording import wording_of
from pipelines.values.dataset import Prompt
from pipelines.values.evidence import Completion, Resampling, Scorecard
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.own_metric import own_metric_names
from pipelines.values.params import Params, load_params
from pipelines.values.trial import SystemAnswers, Trial, read_trial

# On scales up to 100: only rounding differs between the two ways.
TOLERANCE = 1e-6


def score(trial: Trial, params: Params, min_group_size: int, into: Path) -> Scorecard:
    """Score base, few-shot base, adapter and, where there is one, champion.

    Evidence and named answers are written below `into`. Files of own metrics are read from
    `metrics/` of the current folder. `IncompleteGeneration` where an answer or a loss is missing,
    `IncompleteEvidence` where two ways of computing a metric disagree, `ParameterError` or
    `UnusableRow` where the file of an own metric is wrong.
    """
    settings = params.score.settings
    own = own_metric_names(params.score.metrics)
    built_in = [name for name in params.score.metrics if name not in own]
    resampling = Resampling(resamples=params.score.resamples, seed=params.score.seed)
    evidence = build_evidence(
        trial,
        [metric_named(name, settings) for name in built_in],
        settings,
        [own_metric_file(name, Path()) for name in own],
    )
    _check_claim(trial, evidence)
    # In the order of the parameters.
    metrics = [evidence.metric_named(name) for name in params.score.metrics]
    # Before anything is written: a doubtful number must not be found on disk.
    check_against_evaluate(evidence, metrics)
    named = named_answers(trial)
    evidence_path = into / "evidence.parquet"
    named_path = into / NAMED_ANSWERS
    write_evidence(evidence_path, evidence)
    write_jsonl(named_path, (row.model_dump(mode="json") for row in named))
    safety = safety_of(trial.probed, params, into)
    humaneval = humaneval_of(trial.humaneval, params, into)
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
        evidence=FileDigest.of(evidence_path),
        resampling=resampling,
        bias=output_bias_of(evidence, named, params, min_group_size),
        named_answers=FileDigest.of(named_path),
        safety=safety.report,
        safety_answers=safety.answers,
        wording=wording_of(evidence, named, params, min_group_size),
        humaneval=humaneval.report,
        humaneval_answers=humaneval.answers,
        sampled_as=evidence.sampled_as,
    )


def main() -> int:
    """Write the scorecard and its evidence."""
    params = load_params()
    gates = load_policy(layout.POLICY).gates
    trial = read_trial()
    scorecard = score(trial, params, gates.admit.min_group_size, layout.SCORE)
    scorecard.write(layout.SCORECARD)
    metric = params.score.metrics[0]
    sys.stdout.write(f"{summarise(scorecard, metric)}\n")
    return 0


def summarise(scorecard: Scorecard, metric: str) -> str:
    """One line for people: a metric of every system with its 95 % interval."""
    figures: list[str] = []
    for system in scorecard.systems:
        found = system.metric(metric)
        # A number would be read as one that means something.
        if found.inapplicable is not None:
            return f"{metric} does not apply: {found.inapplicable}"
        interval = found.interval
        bounds = f"[{interval.low:.2f}, {interval.high:.2f}]"
        figures.append(f"{system.system} {interval.estimate:.2f} {bounds}")
    return (
        f"{metric}: {', '.join(figures)} "
        f"on {scorecard.prompts} prompts in {scorecard.clusters} clusters"
    )


def build_evidence(
    trial: Trial,
    metrics: Sequence[Metric],
    settings: MetricSettings,
    own: Sequence[MetricFile] = (),
) -> Evidence:
    """Build every system's rows with their statistics, by metrics under these settings.

    The files of own metrics run in processes of their own.

    `IncompleteGeneration` where a system has no answer or no loss for a prompt.
    """
    controls = control_prompts(trial.prompts)
    rows: list[EvidenceRow] = []
    for system in trial.systems:
        answers = trial.answers(system.system)
        rows += _build_rows(trial, answers, controls)
    made_by = {answers.system: answers.completions.spec for answers in trial.systems}
    # Evidence says after which examples a baseline answered.
    prefixes = {
        answers.system: answers.completions.prompt_prefix_sha256
        for answers in trial.systems
        if answers.completions.prompt_prefix_sha256 is not None
    }
    scored = list_scored_rows(rows)
    references = [prompt.references for prompt in trial.prompts]
    counted = [count_rows(file, scored, references) for file in own]
    evidence = with_statistics(rows, [*metrics, *counted])
    # What made the answers, so that a verdict cannot be moved to another configuration; and how
    # they were counted, so that it is found again whatever the parameters say later.
    header = {
        "made_by": made_by,
        "settings": settings,
        "own_metrics": tuple(metric.record for metric in counted),
        "prefixes": prefixes,
        "sampled_as": trial.drawn,
    }
    return evidence.model_copy(update=header)


def check_against_evaluate(evidence: Evidence, metrics: Sequence[Metric]) -> None:
    """Compute BLEU and chrF once more through `evaluate`, and compare.

    A score is reported only where both ways give the same number: else `IncompleteEvidence`.
    """
    settings = evidence.settings or MetricSettings()
    drawn = evidence.sampled_as
    samples = 1 if drawn is None else drawn.samples
    for metric in metrics:
        if metric.name not in MODULES:
            continue
        for system, rows in evidence.rows.items():
            statistics = evidence.statistics(system, metric.name)
            # Every sample is a row there: of a mean of k, k times as much was counted.
            ours = float(metric.corpus(statistics.sum(axis=0) * samples))
            scored = [answer for row in rows for answer in list_answers(row.row)]
            predictions = [answer.prediction for answer in scored]
            references = [answer.references for answer in scored]
            theirs = evaluate_score(metric.name, predictions, references, settings)
            # `not <=`: a NaN on either side does not pass.
            if not abs(ours - theirs) <= TOLERANCE:
                raise IncompleteEvidence(
                    f"{metric.name} of {system} is {ours!r} from its statistics "
                    f"and {theirs!r} from evaluate. Install what `assay doctor` names."
                )


def _check_claim(trial: Trial, evidence: Evidence) -> None:
    """`IncompleteEvidence` where a prompt claims to be the few-shot baseline and is not."""
    prompt = trial.adapter.prompt
    # It would not be compared with that baseline.
    if prompt is not None and prompt.contradicts(evidence.prefixes.get("few_shot")):
        raise IncompleteEvidence(
            "The prompt is recorded as the few-shot baseline, and that baseline answered after "
            "other examples. Run `assay judge --prompt few-shot` again."
        )


def _count_tokens(answer: Completion) -> int | None:
    """What the answer took, its prompt included; None where the prompt was not counted."""
    prompt_tokens = answer.prompt_tokens
    return None if prompt_tokens is None else prompt_tokens + answer.tokens


def _build_rows(
    trial: Trial, answers: SystemAnswers, controls: dict[str, Prompt]
) -> list[EvidenceRow]:
    texts = {answer.prompt_id: answer.text for answer in answers.answers}
    tokens = {answer.prompt_id: _count_tokens(answer) for answer in answers.answers}
    losses = {(loss.prompt_id, loss.reference): loss for loss in answers.losses}
    samples: dict[str, tuple[str, ...]] = {prompt.id: () for prompt in trial.prompts}
    # By their numbers: a file may hold them in any order.
    for sample in sorted(answers.samples, key=lambda each: each.sample):
        samples[sample.prompt_id] += (sample.text,)
    # The negative control scores the adapter's answers alone against other references.
    is_adapter = answers.system == "adapter"
    rows: list[EvidenceRow] = []
    for prompt, content in zip(
        trial.prompts, digest_contents(trial.prompts), strict=True
    ):
        # Every key exists: `Trial.answers` has counted answers and losses.
        reference_numbers = range(len(prompt.references))
        row = ScoredRow(
            prompt_id=prompt.id,
            prediction=texts[prompt.id],
            references=prompt.references,
            losses=tuple(losses[prompt.id, number] for number in reference_numbers),
            tests=prompt.tests,
            tokens=tokens[prompt.id],
            adapter_bytes=answers.completions.adapter_bytes,
            samples=samples[prompt.id],
        )
        rows.append(
            EvidenceRow(
                system=answers.system,
                group=prompt.group,
                feature=prompt.feature,
                content=content,
                row=row,
                statistics={},
                control_prompt_id=controls[prompt.id].id if is_adapter else None,
                control={},
            )
        )
    return rows
