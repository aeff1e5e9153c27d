"""A loaded model in OpenVINO, trusted only where it computes what the loaded model computes."""

from importlib.metadata import version

import torch

from core.log import say
from pipelines.engines import NotTaken
from pipelines.engines.adapter_switch import AdapterSwitch
from pipelines.engines.openvino.graph import compile_recorded
from pipelines.engines.openvino.library import load_library
from pipelines.engines.openvino.paged import PagedSlots, open_paged
from pipelines.engines.openvino.trace import record
from pipelines.engines.openvino.weights import WeightsFile
from pipelines.engines.row_model import Part, Rows, Switch
from pipelines.engines.slot_model import Trial, are_alike, do_nothing
from pipelines.engines.slots import HeadShape
from pipelines.models.batching import Batching
from pipelines.models.language_model import LanguageModel

# How configurations count experts.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# More than two blocks of its cache, so that a wrong order of them is seen.
_SHORT, _LONG = 35, 75
# Numbers of tokens: it has one form of some weights for a few, and another for more.
_FORMS = (1, 8, 64)


def open_openvino(language: LanguageModel, *, has_adapter: bool) -> Rows[PagedSlots]:
    """Compile a loaded model with its adapter; `NotTaken` with the reason why it cannot serve.

    Two rows are computed by OpenVINO and by the model itself, with the adapter and without: an
    adapter that is not applied, or with another scale, is seen here.
    """
    load_library()
    check_kind(language)
    trial = make_trial(language)
    shapes = look_at_shapes(language)
    weights = move_weights(language)
    recorded = record(language.model, shapes)
    is_int8 = language.precision == "int8"
    compiled = compile_recorded(recorded, torch.get_num_threads(), is_int8=is_int8)
    model, slots = open_paged(compiled, has_adapter=has_adapter)
    rows = Rows(model, slots, switch=model)
    check_rows(language, trial, rows, has_adapter=has_adapter)
    compute_once(rows, language.context_tokens)
    if weights is not None:
        weights.leave_memory()
    return rows


def make_trial(language: LanguageModel) -> Trial:
    """Two rows that fill more than two blocks, as far as the context allows."""
    long = min(_LONG, language.context_tokens)
    return Trial.of(language, short=min(_SHORT, long - 1), long=long)


def check_rows(
    language: LanguageModel, trial: Trial, rows: Rows[PagedSlots], *, has_adapter: bool
) -> None:
    """Return only if both compute the same, without the adapter and with it.

    `NotTaken` where they do not. The loaded model has its adapter on afterwards, whatever came of
    it: transformers may have to serve it then.
    """
    loaded = AdapterSwitch(language.model, has_adapter=has_adapter)
    switches: list[Switch] = [loaded]
    if rows.switch is not None:
        switches.append(rows.switch)
    # Without an adapter both are the base.
    states = (False, True) if has_adapter else (True,)
    try:
        for on in states:
            for switch in switches:
                switch.turn(on=on)
            _check_logits(language, trial, rows)
    finally:
        loaded.turn(on=True)


def look_at_shapes(language: LanguageModel) -> list[tuple[HeadShape, HeadShape]]:
    """What each layer keeps for one token, seen in as few of them as there can be."""
    fewest = Trial.of(language, short=1, long=2)
    with torch.inference_mode():
        _, shapes = fewest.compute_alone(language)
    return shapes


def compute_once(rows: Rows[PagedSlots], longest: int) -> None:
    """Have OpenVINO make the forms of the weights that it computes few tokens by, and many."""
    slots = rows.slots.like()
    slots.reserve(1, _FORMS[-1])
    with torch.inference_mode():
        for form in _FORMS:
            count = min(form, longest)
            part = Part(0, 0, [0] * count)
            rows.model.compute(slots, [part], do_nothing)


def move_weights(language: LanguageModel) -> WeightsFile | None:
    """Have them in a file; None where there is no room for one."""
    try:
        return WeightsFile(language.model)
    except OSError as error:
        say(
            f"The weights stay in memory twice: no temporary file holds them ({error})."
        )
        return None


def library_version() -> str:
    """The installed version of OpenVINO: others may round differently."""
    return version("openvino")


def check_kind(language: LanguageModel) -> None:
    """Return only if this is a base that can be recorded; `NotTaken` with the reason otherwise."""
    if language.device != "cpu":
        raise NotTaken(f"the model is on {language.device}, not on the processor")
    if language.arithmetic != "float32":
        raise NotTaken(f"it computes in float32, not {language.precision}")
    if language.batching is not Batching.SHARED_PREFIX:
        raise NotTaken(
            "rows of this base cannot share a step (attention over a part of a row, "
            "or a state that takes padding in)"
        )
    # A record holds the experts of its example's tokens, whatever the next ones need.
    config = language.model.config.get_text_config(decoder=True)
    if any(getattr(config, name, None) for name in _EXPERTS):
        raise NotTaken(
            "it chooses experts for each token, which no recorded forward does"
        )


def _check_logits(
    language: LanguageModel, trial: Trial, rows: Rows[PagedSlots]
) -> None:
    with torch.inference_mode():
        expected, _ = trial.compute_alone(language)
        try:
            computed = trial.compute_together(rows.model, rows.slots.like())
        except RuntimeError as error:
            fact = str(error).strip()[-200:]
            raise NotTaken(f"its compiled graph does not run ({fact})") from error
    if not are_alike(computed, expected, torch.float32):
        raise NotTaken("it computes other probabilities than the model itself")
