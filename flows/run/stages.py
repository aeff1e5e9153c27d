"""The order of the stages, which training, re-scoring and the dry run share.

DATA         collect ─ split ─ validate ─ bias ─ admit
base_model   checked on the admitted rows
fine_tune
EVALUATION   prompt_baselines ─ generate ─ score ─ screen
"""

from flows.run.comparator_bases import place_comparator_bases
from flows.run.report import print_base_check
from flows.run.stage_task import run_stage
from flows.run.workspace import Workspace, place_base_model
from pipelines import layout
from pipelines.values.conformance import Conformance
from pipelines.values.training_set import read_admission
from pipelines.values.verdict import Finalist, Rejection, Undecided, read_screen_verdict

DATA = ("collect", "split", "validate", "bias", "admit")
EVALUATION = ("prompt_baselines", "generate", "score", "screen")


def admit_rows(workspace: Workspace) -> Rejection | Undecided | None:
    """Run the gate `admit` and check the base. None where both pass, else the gate's verdict."""
    for stage in DATA:
        run_stage(workspace, stage)
    admission = read_admission(workspace.root / layout.ADMIT_VERDICT)
    # A gate that refuses is a result: nothing is trained.
    if isinstance(admission, Rejection | Undecided):
        return admission
    # After the gate: the check asks the base the user's own prompts.
    run_stage(workspace, "base_model")
    # From its file, which the cache gives back where it was made on another day.
    print_base_check(Conformance.read(workspace.root / layout.CONFORMANCE))
    # The cache may have given the manifest of a base that this machine does not have.
    place_base_model(workspace)
    # Before the long stages: a champion whose base is not here ends the run.
    place_comparator_bases(workspace)
    return None


def evaluate_adapter(workspace: Workspace) -> Finalist | Rejection | Undecided:
    """Run the stages from the adapter in the workspace to the verdict of the gate `screen`."""
    for stage in EVALUATION:
        run_stage(workspace, stage)
    return read_screen_verdict(workspace.root / layout.SCREEN_VERDICT)
