"""Trials whose answers were drawn by chance, in memory."""

from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import Evidence
from pipelines.stages.score import build_evidence
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.sampling import (
    SampledAnswer,
    SampledAs,
    SampledCompletions,
    seeds_from,
)
from pipelines.values.trial import SystemAnswers, Trial
from tests.support import trials

DRAWN = SampledAs(temperature=0.7, seeds=seeds_from(0, 5))


def with_samples(answers: SystemAnswers, drawn: SampledAs = DRAWN) -> SystemAnswers:
    """The same system; its first sample is its answer, and later ones lose the last word."""
    samples = []
    for answer in answers.answers:
        for number in range(drawn.samples):
            text = answer.text if number == 0 else answer.text.rpartition(" ")[0]
            samples.append(
                SampledAnswer(
                    prompt_id=answer.prompt_id,
                    sample=number,
                    text=text,
                    tokens=6,
                    ended=True,
                )
            )
    sampled = SampledCompletions(drawn=drawn, answers=answers.completions.answers)
    completions = answers.completions.model_copy(update={"sampled": sampled})
    update = {"completions": completions, "samples": tuple(samples)}
    return answers.model_copy(update=update)


def sampled_trial(drawn: SampledAs = DRAWN) -> Trial:
    """A trial in which every system answered each prompt several times."""
    made = trials.trial()
    systems = tuple(with_samples(answers, drawn) for answers in made.systems)
    return made.model_copy(update={"systems": systems})


def evidence_of(trial: Trial, *names: str) -> Evidence:
    """The trial's evidence for some metrics."""
    metrics = [metric_named(name) for name in names]
    return build_evidence(trial, metrics, MetricSettings())
