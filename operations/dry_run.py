"""`assay run --dry-run`: what `admit` would say, time, memory, the smallest effect that can be shown; nothing is trained."""

import io
import math
import time
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.environment import set_library_environment
from core.project import find_project
from core.settings import Settings
from core.value import Value
from flows.run.request import TrainRequest
from flows.run.workspace import Workspace, open_workspace
from pipelines import layout
from pipelines.gates.policy import ScreenPolicy, load_policy
from pipelines.models.answers import check_lengths
from pipelines.models.chat import ChatEncoder
from pipelines.models.language_model import (
    LanguageModel,
    completion_losses,
    load_language_model,
)
from pipelines.models.resources import needs
from pipelines.rows.contents import clusters_of, contents_of
from pipelines.stages.admit import TRAINED_ON
from pipelines.stages.admit import main as admit
from pipelines.stages.base_model import base_model, locate
from pipelines.stages.bias import main as bias
from pipelines.stages.collect import main as collect
from pipelines.stages.fine_tune import Start, encode, training_steps
from pipelines.stages.split import main as split
from pipelines.stages.validate import main as validate
from pipelines.statistics.power import smallest_detectable_effect
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import SPLITS, prompts_of, read_rows
from pipelines.values.params import Params
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import Admission, Rejection, Undecided

_TRAIN_OVER_SCORE = (
    3.5  # forward and backward against forward alone, measured on two cores
)
_ANSWER_OVER_SCORE = (
    2.5  # a generated token against a scored one, in batches, measured on two cores
)
_SAMPLE = 16


class Estimate(Value):
    """What `admit` says of the rows, what a run would take, and what it could show."""

    admission: Literal["passed", "rejected", "undecided"]
    reasons: tuple[str, ...]
    steps: int
    training_seconds: float
    evaluation_seconds: float
    memory_bytes: int
    disk_bytes: int
    rows: dict[str, int]
    clusters: int
    smallest_effect_in_standard_deviations: float | None

    @property
    def text(self) -> str:
        """For a person: a line for each thing, and one for each reason why the run would end at `admit`."""
        effect = self.smallest_effect_in_standard_deviations
        shown = (
            f"{effect:.2f} standard deviations of a cluster's difference, four times in five, with {self.clusters} held-out clusters"
            if effect is not None
            else "nothing: the held-out split is empty"
        )
        admitted = {
            "passed": "would pass",
            "rejected": "would reject these rows",
            "undecided": "could not decide on these rows",
        }
        reasons = "".join(f"            {reason}\n" for reason in self.reasons)
        return (
            f"admit       {admitted[self.admission]}\n{reasons}"
            f"rows        {', '.join(f'{name} {count:,}' for name, count in self.rows.items())}\n"
            f"time        {self._time}\n"
            f"memory      about {self.memory_bytes / 1e9:.1f} GB, disk about {self.disk_bytes / 1e9:.1f} GB\n"
            f"can show    {shown}"
        )

    @property
    def _time(self) -> str:
        if not self.rows["train"]:
            return "not known: the train split is empty, and its rows are what is timed"
        return (
            f"about {self.training_seconds / 60:.0f} min for {self.steps} training steps, "
            f"{self.evaluation_seconds / 60:.0f} min to answer and score, measured on {min(_SAMPLE, self.rows['train'])} rows just now; "
            "the start of the stages takes a minute or two more"
        )


@dataclass(frozen=True)
class _Tokens:
    """Rows of a split as token counts, with a few of them to be timed."""

    counts: tuple[int, ...]
    sample: tuple[tuple[list[int], list[int]], ...]


def estimate(request: TrainRequest) -> Estimate:
    """Collect and split the request's rows in a workspace of their own, time a few of them, and work out the rest."""
    set_library_environment()
    project = find_project(Settings().home)
    with open_workspace(project, request) as workspace, chdir(workspace.root):
        collect()
        split()
        validate()
        bias()
        with redirect_stdout(io.StringIO()):
            admit()  # its reasons stand in the estimate
        base, template = base_model(workspace.params.base_model, project.home)
        folder = locate(base, project.home)  # hashes every byte of the weights: once
        language = load_language_model(base, folder, template, "float32")
        if read_admission(layout.ADMIT_VERDICT).verdict == "passed":
            _check_lengths(
                Start(base, template, language.encoder), language, workspace.params
            )
        tokens = _tokens(language.encoder)
        rate = _scored_tokens_per_second(language, tokens)
        policy = load_policy(layout.POLICY).gates.screen
        return _estimate(workspace, base, tokens, rate, policy)


def _estimate(
    workspace: Workspace,
    base: BaseModelManifest,
    tokens: _Tokens,
    rate: float,
    policy: ScreenPolicy,
) -> Estimate:
    params = workspace.params
    admission = read_admission(workspace.root / layout.ADMIT_VERDICT)
    splits = {
        name: read_rows(workspace.root / layout.VALIDATE / f"{name}.jsonl")
        for name in SPLITS
    }
    steps = training_steps(len(splits["train"]), params.train)
    mean = sum(tokens.counts) / max(1, len(tokens.counts))
    looks = 1 + math.ceil(steps / params.train.evaluate_every)
    training = (
        (
            steps * params.train.batch_size * _TRAIN_OVER_SCORE
            + looks * len(splits["dev"])
        )
        * mean
        / rate
    )
    prompts = prompts_of(splits["held_out"])
    asked = 3 * len(prompts) + params.bias.prompts * sum(
        len(names) for names in params.bias.names.values()
    )
    evaluation = (
        asked * params.generation.max_new_tokens * _ANSWER_OVER_SCORE
        + 3 * len(splits["held_out"]) * mean
    ) / rate
    needed = needs(base, params, max(tokens.counts, default=0), len(tokens.counts))
    clusters = len(
        set(clusters_of([prompt.group for prompt in prompts], contents_of(prompts)))
    )
    return Estimate(
        admission=admission.verdict,
        reasons=_reasons(admission),
        steps=steps,
        training_seconds=training,
        evaluation_seconds=evaluation,
        memory_bytes=needed.memory,
        disk_bytes=needed.disk,
        rows={name: len(rows) for name, rows in splits.items()},
        clusters=clusters,
        smallest_effect_in_standard_deviations=smallest_detectable_effect(
            clusters, policy.alpha, policy.power
        )
        if clusters
        else None,
    )


def _reasons(admission: Admission | Rejection | Undecided) -> tuple[str, ...]:
    return tuple(
        finding.text for finding in admission.findings if finding.outcome != "passed"
    )


def _check_lengths(start: Start, language: LanguageModel, params: Params) -> None:
    """Refuse now the rows and prompts that `fine_tune` and `generate` would refuse."""
    for name in TRAINED_ON:
        encode(read_rows(layout.VALIDATE / f"{name}.jsonl"), start, params.train)
    prompts = prompts_of(read_rows(layout.HELD_OUT))
    check_lengths(
        language,
        prompts,
        [start.encoder.prompt_ids(prompt.messages) for prompt in prompts],
        params.generation,
    )


def _tokens(encoder: ChatEncoder) -> _Tokens:
    rows = read_rows(Path("data/validate/train.jsonl"))
    pairs = [
        (encoder.prompt_ids(row.messages), encoder.completion_ids(row.completion))
        for row in rows
    ]
    return _Tokens(
        counts=tuple(len(prompt) + len(completion) for prompt, completion in pairs),
        sample=tuple(pairs[:_SAMPLE]),
    )


def _scored_tokens_per_second(language: LanguageModel, tokens: _Tokens) -> float:
    completion_losses(
        language, tokens.sample, batch_size=_SAMPLE
    )  # the first call pays for what torch sets up
    started = time.monotonic()
    completion_losses(language, tokens.sample, batch_size=_SAMPLE)
    scored = sum(len(prompt) + len(completion) for prompt, completion in tokens.sample)
    return max(1.0, scored / max(1e-6, time.monotonic() - started))
