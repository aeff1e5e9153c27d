"""A prompt that is to be judged, put where training would have put an adapter."""

from pydantic import ValidationError

from core.errors import ParameterError
from core.value import first_problem
from flows.run.stage_task import run_stage
from flows.run.taking_in import ADAPTER_FOLDER, run_taking_in
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.values.dataset import group_prompts, read_rows
from pipelines.values.evidence import Adapter
from pipelines.values.examples import FewShotChoice
from pipelines.values.fixed_prompt import FixedPrompt
from pipelines.values.training_set import read_training_set


def place_prompt_candidate(workspace: Workspace, fixed: FixedPrompt | None) -> None:
    """Take a prompt into the workspace; None: the examples that the few-shot search chooses.

    `ParameterError` where an example asks what a held-out row asks, `UnusableRow` where the prompt
    leaves no room for a row or the template refuses it.
    """
    # First: whether the prompt is that baseline itself decides what it is compared with.
    run_stage(workspace, "prompt_baselines")
    choice = FewShotChoice.read(workspace.root / layout.FEW_SHOT_EXAMPLES)
    prompt = fixed or prompt_of(choice)
    # Asked of the parts: the search may have found rows that are no prompt, as below.
    is_few_shot = (prompt.system, prompt.examples) == (None, choice.examples)
    run_taking_in(lambda: _take_in(workspace, prompt, is_few_shot=is_few_shot))


def prompt_of(choice: FewShotChoice) -> FixedPrompt:
    """The examples of the search as a prompt; `ParameterError` where they are none."""
    try:
        return FixedPrompt(examples=choice.examples)
    # Rows may hold several turns of one side, which no template takes before every conversation.
    except ValidationError as error:
        raise ParameterError(
            f"What the few-shot search chose is no prompt: {first_problem(error)}. "
            "Give a file with --prompt."
        ) from error


def _take_in(workspace: Workspace, prompt: FixedPrompt, *, is_few_shot: bool) -> str:
    """Write and record the prompt, and give the line that people see."""
    # torch comes with it.
    from pipelines.models.language_model import load_language_model
    from pipelines.models.prompt_candidate import (
        check_unseen,
        measure_prompt,
        place_prompt,
        record_prompt,
    )
    from pipelines.models.taken_in import draw_rows

    root, params = workspace.root, workspace.params.generation
    judging = [
        *read_rows(root / layout.HELD_OUT),
        *read_rows(root / layout.SEALED),
    ]
    # The search drew from rows that `admit` compared with these already.
    if not is_few_shot:
        check_unseen(prompt, group_prompts(judging))
    base, template = read_base_model(root / layout.BASE_MODEL)
    place_prompt(prompt, root / ADAPTER_FOLDER)
    language = load_language_model(
        base,
        locate_base_model(base, workspace.home),
        template,
        params.precision,
        root / ADAPTER_FOLDER,
    )
    dev = read_training_set(root / layout.TRAINING_SET).dev.checked(root)
    rows = draw_rows(read_rows(dev))
    # A mean over nothing is no loss, and a record needs one.
    if not rows:
        raise ParameterError("There is no dev row to measure the prompt on.")
    losses = measure_prompt(language, rows, params.batch_size)
    adapter = record_prompt(
        (root, ADAPTER_FOLDER),
        prompt,
        base,
        losses,
        "few_shot" if is_few_shot else None,
    )
    adapter.write(root / layout.ADAPTER)
    return _summarise(adapter)


def _summarise(adapter: Adapter) -> str:
    without, after = (look.loss for look in adapter.dev_losses)
    named = "" if adapter.prompt is None else f"{adapter.prompt.examples} examples, "
    return f"a prompt, {named}dev loss {without:.3f} → {after:.3f}"
