"""Judge what was brought: every stage of the main path but training, and every gate.

    raw rows ─ split ─ … ─admit─ TrainingSet      adapter or prompt ─ take in ─┐
             ─ Completions ─ Scorecard ─screen─ Finalist ─ Confirmation ─ ModelVersion @challenger

Signature, ledger entry and verdict are as of any other version.
"""

from pathlib import Path

from prefect import flow

from core.project import find_project
from core.settings import Settings
from flows.run.attempt import Attempt
from flows.run.candidate import Candidate
from flows.run.outcome import Outcome
from flows.run.prompt_taking_in import place_prompt_candidate
from flows.run.request import TrainRequest
from flows.run.taking_in import place_adapter, probe
from flows.run.training_lock import training_turn
from flows.train import to_verdict
from pipelines.models.foreign_config import ForeignAdapter, read_foreign_adapter
from pipelines.models.prompt_files import read_prompt_file
from pipelines.values.fixed_prompt import FEW_SHOT, FixedPrompt, key_of_prompt


@flow(
    name="judge-adapter",
    flow_run_name="{adapter.name} for {request.model}",
    validate_parameters=False,
)
def judge_adapter(request: TrainRequest, adapter: Path) -> Outcome:
    """Take an adapter that was trained elsewhere to a verdict on the request's rows and base.

    `membership.json` says what can be said of whether it was trained on the held-out rows.
    """
    # Read first: what cannot be taken in is refused before anything is written.
    foreign = read_foreign_adapter(adapter)
    return _judge(_with_lora(request, foreign), _adapter(foreign))


@flow(
    name="judge-prompt",
    flow_run_name="{prompt} for {request.model}",
    validate_parameters=False,
)
def judge_prompt(request: TrainRequest, prompt: str) -> Outcome:
    """Take a prompt to a verdict: a file, or `few-shot` for the examples of that search."""
    fixed = None if prompt == FEW_SHOT else read_prompt_file(Path(prompt))
    return _judge(request, _prompt(fixed, prompt))


def _judge(request: TrainRequest, candidate: Candidate) -> Outcome:
    project = find_project(Settings().home)
    # In turn with training: two at once would not see which groups the other has scored.
    with training_turn(project.home, request.model):
        return to_verdict(project, request, candidate)


def _adapter(foreign: ForeignAdapter) -> Candidate:
    brought = foreign.provenance

    def make(attempt: Attempt) -> None:
        place_adapter(attempt.workspace, foreign)

    # Of a rejected adapter, too: its page may explain why it was rejected.
    def follow(attempt: Attempt) -> None:
        probe(attempt.workspace)

    return Candidate(
        title=f"{foreign.folder.name} trained elsewhere",
        make=make,
        brought={
            "weights": brought.weights_sha256,
            "config": brought.config_sha256,
        },
        follow=follow,
    )


def _prompt(fixed: FixedPrompt | None, source: str) -> Candidate:
    def make(attempt: Attempt) -> None:
        place_prompt_candidate(attempt.workspace, fixed)

    # Which examples the search finds follows from rows and parameters, as an adapter does.
    key = FEW_SHOT if fixed is None else key_of_prompt(fixed)
    return Candidate(
        title=f"the prompt {Path(source).name}",
        make=make,
        brought={"prompt": key},
    )


def _with_lora(request: TrainRequest, foreign: ForeignAdapter) -> TrainRequest:
    """The request with the adapter's own rank and scale among its parameters."""
    lora = foreign.lora
    settings = {
        "lora.r": lora.r,
        "lora.alpha": lora.alpha,
        "lora.dropout": lora.dropout,
    }
    # Its own come last: an adapter cannot be given another rank by a setting.
    merged = {**request.settings, **settings}
    return request.model_copy(update={"settings": merged})
