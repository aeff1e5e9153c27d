"""A base in OpenVINO whose adapters come and go, trusted where it computes what peft computes."""

from dataclasses import replace

import torch

from pipelines.engines import NotTaken
from pipelines.engines.openvino.graph import compile_recorded
from pipelines.engines.openvino.library import load_library
from pipelines.engines.openvino.opening import (
    check_kind,
    compute_once,
    look_at_shapes,
    move_weights,
)
from pipelines.engines.openvino.paged import open_paged
from pipelines.engines.openvino.stacked import StackedModel, StackInputs
from pipelines.engines.openvino.trace import record
from pipelines.engines.row_model import Rows
from pipelines.engines.shared.engine import SharedEngine
from pipelines.engines.shared.opening import Prepared, open_together
from pipelines.models.language_model import LanguageModel


def check_sharing(language: LanguageModel) -> None:
    """Return only if OpenVINO may take this base; `NotTaken` with the reason otherwise."""
    load_library()
    check_kind(language)


def open_on_openvino(prepared: Prepared) -> SharedEngine:
    """Compile a base with places for adapters; `NotTaken` where that computes something else."""
    language = prepared.language
    shapes = look_at_shapes(language)
    weights = move_weights(language)
    recorded = record(language.model, shapes, StackInputs(prepared.places))
    is_int8 = language.precision == "int8"
    compiled = compile_recorded(recorded, torch.get_num_threads(), is_int8=is_int8)
    paged, slots = open_paged(compiled, has_adapter=False)
    model = StackedModel(paged, prepared.tried)
    rows = Rows(model, slots, switch=None)
    try:
        is_right = prepared.proof.holds_together(rows)
    except RuntimeError as error:
        fact = str(error).strip()[-200:]
        raise NotTaken(f"its compiled graph does not run ({fact})") from error
    if not is_right:
        raise NotTaken("it computes other probabilities than the model itself")
    model.stack = prepared.places.stack
    compute_once(rows, language.context_tokens)
    if weights is not None:
        weights.leave_memory()
    # The compiled model has weights of its own.
    without_weights = replace(language, model=None)
    return open_together(without_weights, rows, model)
