"""`assay run --dry-run`: what `admit` would say, time, memory, and the smallest effect to be shown.

Nothing is trained.
"""

import io
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from core.console import duration
from core.environment import set_library_environment
from core.project import find_project
from core.settings import Settings
from core.value import Value
from flows.run.request import TrainRequest
from flows.run.seen_groups import place_seen_groups
from flows.run.workspace import Workspace, open_workspace
from operations.earlier_evidence import describe_earlier_power
from operations.reserve_forecast import describe_reserve
from pipelines import layout
from pipelines.engines.scored_model import check_takes
from pipelines.gates.policy import ScreenPolicy, load_policy
from pipelines.metrics import described_metric, metric_named
from pipelines.metrics.needless import (
    describe_needless,
    has_parts,
    needless_settings,
)
from pipelines.models.base_check import check_base, read_all_rows
from pipelines.models.base_store import locate_base_model
from pipelines.models.chat import ChatEncoder
from pipelines.models.comparator_bases import PlacedBase
from pipelines.models.language_model import (
    LanguageModel,
    load_language_model,
    measure_completion_losses,
)
from pipelines.models.resources import estimate_needs
from pipelines.rows.contents import assign_clusters, digest_contents
from pipelines.stages.admit import TRAINING_SPLITS
from pipelines.stages.admit import main as admit
from pipelines.stages.base_model import base_model
from pipelines.stages.bias import main as bias
from pipelines.stages.collect import main as collect
from pipelines.stages.fine_tune import Start, count_training_steps, encode_rows
from pipelines.stages.split import main as split
from pipelines.stages.validate import main as validate
from pipelines.statistics.power import smallest_detectable_effect
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.conformance import Conformance
from pipelines.values.dataset import SPLITS, Prompt, Row, group_prompts, read_rows
from pipelines.values.own_metric import BUILT_IN
from pipelines.values.params import Params
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import Admission, Rejection, Undecided

# Forward and backward against forward alone, measured on two cores.
_TRAIN_OVER_SCORE = 3.5
# A generated token against a scored one, in batches, measured on two cores.
_ANSWER_OVER_SCORE = 2.5
# Each is asked every held-out prompt, and scored on every held-out row.
_SYSTEMS = 3
# Rows that are timed: one batch.
_SAMPLE = 16
_GIGABYTE = 1e9


class Estimate(Value):
    """What `admit` says of the rows, what a run would take, and what it could show."""

    admission: Literal["passed", "rejected", "undecided"]
    reasons: tuple[str, ...]
    steps: int
    training_seconds: float | None = Field(
        description="None: the train split has no row that could be timed."
    )
    evaluation_seconds: float | None = Field(
        description="None: as for training, or the held-out split has no row."
    )
    memory_bytes: int
    disk_bytes: int
    rows: dict[str, int]
    clusters: int
    smallest_effect_in_standard_deviations: float | None
    conformance: Conformance | None = None
    inapplicable: tuple[str, ...] = ()
    reserve: str = Field(
        default="",
        description="What a sealed reserve could confirm now, or what is missing.",
    )
    power: tuple[str, ...] = Field(
        default=(),
        description="Of all rules together, from an earlier run's evidence on these prompts.",
    )

    @property
    def text(self) -> str:
        """Give a line for each quantity, and one for each reason to end at `admit`."""
        rows = [f"{name} {count:,}" for name, count in self.rows.items()]
        memory = f"{self.memory_bytes / _GIGABYTE:.1f} GB"
        disk = f"{self.disk_bytes / _GIGABYTE:.1f} GB"
        admitted = {
            "passed": "would pass",
            "rejected": "would reject these rows",
            "undecided": "could not decide on these rows",
        }
        reasons = "".join(f"            {reason}\n" for reason in self.reasons)
        notes = "".join(f"metrics     {note}\n" for note in self.inapplicable)
        power = "".join(f"\n            {sentence}" for sentence in self.power)
        return (
            f"admit       {admitted[self.admission]}\n{reasons}"
            f"rows        {', '.join(rows)}\n"
            f"time        {self._time}\n"
            f"memory      about {memory}, disk about {disk}\n"
            f"{notes}"
            f"can show    {self._detectable_effect}{power}\n"
            f"reserve     {self.reserve}{self._base}"
        )

    @property
    def _base(self) -> str:
        # Rows that are not admitted are not asked.
        if self.conformance is None:
            return ""
        return f"\nbase        {self.conformance.base_id}\n{self.conformance.text}"

    @property
    def _detectable_effect(self) -> str:
        effect = self.smallest_effect_in_standard_deviations
        if effect is None:
            return "nothing: the held-out split is empty"
        return (
            f"{effect:.2f} standard deviations of a cluster's difference, four times in five, "
            f"with {self.clusters} held-out clusters"
        )

    @property
    def _time(self) -> str:
        # Without a row that can be timed any number would be invented.
        if self.training_seconds is None:
            return "not known: the train split is empty, and its rows are what is timed"
        training = duration(self.training_seconds)
        timed_rows = min(_SAMPLE, self.rows["train"])
        return (
            f"about {training} for {self.steps} training steps, "
            f"{self._evaluation_time}, measured on {timed_rows} rows just now; "
            "the start of the stages takes a minute or two more"
        )

    @property
    def _evaluation_time(self) -> str:
        if self.evaluation_seconds is None:
            return "with nothing to answer and score, since the held-out split is empty"
        return f"{duration(self.evaluation_seconds)} to answer and score"


@dataclass(frozen=True)
class _Tokens:
    """Rows of a split as token counts, with a few of them to be timed."""

    counts: tuple[int, ...]
    sample: tuple[tuple[list[int], list[int]], ...]
    """Prompt and completion of each row, as token ids."""

    @property
    def mean(self) -> float:
        """Tokens of a row on average; 0 without rows."""
        if not self.counts:
            return 0.0
        total = sum(self.counts)
        return total / len(self.counts)


@dataclass(frozen=True)
class _Timing:
    """The rows to train on, and how fast this machine scores them."""

    tokens: _Tokens
    tokens_per_second: float | None
    """None: no row could be timed."""


def estimate(request: TrainRequest) -> Estimate:
    """Collect and split the request's rows in a workspace of their own, and time a few of them.

    `AssayError` of the kind that the run itself would end with, where its rows or its base model
    do not fit.
    """
    set_library_environment()
    project = find_project(Settings().home)
    with open_workspace(project, request) as workspace, chdir(workspace.root):
        # The stages of a run up to `admit`, in its order.
        collect()
        place_seen_groups(workspace, None, request.model)
        split()
        validate()
        bias()
        # Its reasons are in the estimate.
        with redirect_stdout(io.StringIO()):
            admit()
        base, template = base_model(workspace.params.base_model, project.home)
        # Once, since it hashes every byte of the weights.
        folder = locate_base_model(base, project.home)
        language = load_language_model(base, folder, template, "float32")
        # Rejected rows are not trained on, so their lengths do not matter.
        conformance = None
        if read_admission(layout.ADMIT_VERDICT).verdict == "passed":
            rows = read_all_rows()
            conformance = check_base(base, language, rows, workspace.params)
            _check_lengths(rows, Start(base, template, language.encoder), workspace)
        tokens = _count_tokens(language.encoder)
        speed = _scored_tokens_per_second(language, tokens)
        # The engine that is to score loads its weights once more.
        del language
        check_takes(PlacedBase(base, folder, template), workspace.params.generation)
        policy = load_policy(layout.POLICY).gates.screen
        estimated = _estimate(workspace, base, _Timing(tokens, speed), policy)
        reserve = describe_reserve(
            project.home, request.model, policy, workspace.params.split
        )
        changes = {"conformance": conformance, "reserve": reserve}
        return estimated.model_copy(update=changes)


def _estimate(
    workspace: Workspace,
    base: BaseModelManifest,
    timing: _Timing,
    policy: ScreenPolicy,
) -> Estimate:
    params, tokens = workspace.params, timing.tokens
    admission = read_admission(workspace.root / layout.ADMIT_VERDICT)
    splits = {
        name: read_rows(workspace.root / layout.VALIDATE / f"{name}.jsonl")
        for name in SPLITS
    }
    row_counts = {name: len(rows) for name, rows in splits.items()}
    prompts = group_prompts(splits["held_out"])
    # The longest row decides how much memory a batch takes.
    longest_row = max(tokens.counts, default=0)
    needed = estimate_needs(base, params, longest_row, len(tokens.counts))
    # Rows of one group, or with the same content, are one observation.
    groups = [prompt.group for prompt in prompts]
    clusters = len(set(assign_clusters(groups, digest_contents(prompts))))
    effect = None
    if clusters:
        effect = smallest_detectable_effect(clusters, policy.alpha, policy.power)
    return Estimate(
        admission=admission.verdict,
        reasons=_reasons(admission),
        steps=count_training_steps(row_counts["train"], params.train),
        training_seconds=_training_seconds(timing, row_counts, params),
        evaluation_seconds=_evaluation_seconds(
            timing, len(prompts), row_counts, params
        ),
        memory_bytes=needed.memory,
        disk_bytes=needed.disk,
        rows=row_counts,
        clusters=clusters,
        smallest_effect_in_standard_deviations=effect,
        inapplicable=_inapplicable_metrics(prompts, params, policy.signatures),
        power=describe_earlier_power(workspace.home, prompts, policy),
    )


def _inapplicable_metrics(
    prompts: tuple[Prompt, ...], params: Params, pinned: dict[str, str]
) -> tuple[str, ...]:
    """Say now which metrics will judge nothing, or will be refused, and why.

    A setting can still change it.
    """
    # Without a held-out row nothing is scored at all, which is said elsewhere.
    if not prompts:
        return ()
    references = [prompt.references for prompt in prompts]
    metrics = [
        described_metric(name, params.score.settings, Path(), references)
        for name in params.score.metrics
    ]
    notes = []
    for metric in metrics:
        note = metric.inapplicable(references)
        if note is not None:
            notes.append(f"{metric.name} does not apply: {note}")
        # An own metric has no settings.
        if metric.name not in BUILT_IN:
            continue
        needless = needless_settings(metric, metric_named(metric.name), references)
        allowed = pinned.get(metric.name, "")
        if needless is not None and not has_parts(allowed, needless):
            notes.append(describe_needless(metric.name, needless))
    return tuple(notes)


def _training_seconds(
    timing: _Timing, row_counts: dict[str, int], params: Params
) -> float | None:
    if timing.tokens_per_second is None:
        return None
    train = params.train
    steps = count_training_steps(row_counts["train"], train)
    dev_evaluations = 1 + math.ceil(steps / train.evaluate_every)
    dev_rows = dev_evaluations * row_counts["dev"]
    # A row that is trained on costs as much as several that are only scored.
    trained_rows = steps * train.batch_size * _TRAIN_OVER_SCORE
    tokens = (trained_rows + dev_rows) * timing.tokens.mean
    return tokens / timing.tokens_per_second


def _evaluation_seconds(
    timing: _Timing, prompts: int, row_counts: dict[str, int], params: Params
) -> float | None:
    """Seconds that it takes for three systems to answer and be scored; None: not known."""
    if timing.tokens_per_second is None or not prompts:
        return None
    bias = params.bias
    drawn = params.generation.sampled_as
    # The greedy answer, and those that are drawn by chance.
    each = 1 if drawn is None else 1 + drawn.samples
    bias_answers = bias.prompts * bias.askings
    answers = _SYSTEMS * prompts * each + bias_answers
    longest_answer = params.generation.max_new_tokens
    answer_tokens = answers * longest_answer * _ANSWER_OVER_SCORE
    scored_rows = _SYSTEMS * row_counts["held_out"]
    scored_tokens = scored_rows * timing.tokens.mean
    return (answer_tokens + scored_tokens) / timing.tokens_per_second


def _reasons(admission: Admission | Rejection | Undecided) -> tuple[str, ...]:
    return tuple(
        finding.text for finding in admission.findings if finding.outcome != "passed"
    )


def _check_lengths(
    rows: Mapping[str, Sequence[Row]], start: Start, workspace: Workspace
) -> None:
    """Refuse now the rows that `fine_tune` would refuse."""
    for name in TRAINING_SPLITS:
        encode_rows(rows[name], start, workspace.params.train)


def _count_tokens(encoder: ChatEncoder) -> _Tokens:
    rows = read_rows(Path("data/validate/train.jsonl"))
    pairs = [encoder.encode_example(row.messages, row.completion) for row in rows]
    counts = tuple(len(prompt) + len(completion) for prompt, completion in pairs)
    return _Tokens(counts, sample=tuple(pairs[:_SAMPLE]))


def _scored_tokens_per_second(language: LanguageModel, tokens: _Tokens) -> float | None:
    if not tokens.sample:
        return None
    # The first call pays for what torch sets up.
    measure_completion_losses(language, tokens.sample, batch_size=_SAMPLE)
    started = time.monotonic()
    measure_completion_losses(language, tokens.sample, batch_size=_SAMPLE)
    lengths = [len(prompt) + len(completion) for prompt, completion in tokens.sample]
    scored = sum(lengths)
    seconds = max(1e-6, time.monotonic() - started)
    return max(1.0, scored / seconds)
