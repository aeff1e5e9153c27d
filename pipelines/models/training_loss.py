"""The loss that is trained on: trl's shortcut where it is right, and otherwise the model's logits.

trl multiplies the last hidden states by the output matrix, piece by piece, so that the logits of a
batch are never in memory at once. It looks for both under names that most decoders have, and knows
the scales and caps of some. Where its loss is another than that of the model's own logits, which
are what is scored later, training would aim at another model.
"""

import math
from collections.abc import Mapping
from typing import Any

from core.errors import ParameterError, first_line
from pipelines.values.params import LoraParams

NAME_MODULES = (
    "name the attention's modules, such as "
    "lora.target_modules=[q_proj, k_proj, v_proj, o_proj]"
)
"""The next step of errors about what LoRA is put on: most decoders have these."""
# Relative. In bfloat16, sums in another order differ by more.
_TOLERANCE = {False: 1e-4, True: 1e-2}


def choose_loss(trainer: Any, row: Mapping[str, list[int]], lora: LoraParams) -> None:
    """Run the trainer's model on one encoded row, and have it trained on the loss of its logits.

    `ParameterError` where the model does not compute with LoRA on these modules.
    """
    import torch

    model = trainer.model
    inputs = trainer._prepare_inputs(trainer.data_collator([dict(row)]))  # noqa: SLF001
    was_training = model.training
    # Without dropout: training draws the same numbers with this look and without.
    model.eval()
    try:
        with torch.no_grad(), trainer.compute_loss_context_manager():
            loss = _measure_own_loss(model, inputs, lora)
            if not _is_shortcut_right(trainer, inputs, loss):
                trainer.compute_loss = compute_own_loss
    finally:
        model.train(was_training)


def compute_own_loss(
    model: Any,
    inputs: Mapping[str, Any],
    return_outputs: bool = False,  # noqa: FBT002 - as the trainer calls it
    num_items_in_batch: Any = None,
) -> Any:
    """Mean loss in nats of the tokens that have labels; the signature is the trainer's.

    The sum over a batch is divided by `num_items_in_batch`, where the trainer gives it.
    """
    import torch

    known = {name: value for name, value in inputs.items() if name != "labels"}
    known["use_cache"] = False
    output = model(**known)
    # Each position predicts the next token.
    logits = output.logits[:, :-1].float()
    targets = inputs["labels"][:, 1:]
    nats = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction="sum"
    )
    count = num_items_in_batch
    if count is None:
        # -100 marks what is not learned.
        count = (targets >= 0).sum()
    loss = nats / count
    return (loss, output) if return_outputs else loss


def _measure_own_loss(model: Any, inputs: Mapping[str, Any], lora: LoraParams) -> float:
    import torch

    try:
        return float(compute_own_loss(model, inputs))
    except torch.OutOfMemoryError:
        raise
    # Whatever a model's own code raises where it is given another kind of layer.
    except Exception as error:
        special = _find_special_layers(model)
        among = f", with {special} among them," if special else ""
        raise ParameterError(
            "The base model does not compute with LoRA on lora.target_modules "
            f"{lora.target_modules}{among} ({first_line(error)}). "
            f"Leave routers of experts out: {NAME_MODULES}."
        ) from error


def _find_special_layers(model: Any) -> str:
    """Name the layers under LoRA that compute more than a linear one does, such as routers."""
    from torch.nn import Linear

    names: set[str] = set()
    for path, layer in model.named_modules():
        base = getattr(layer, "base_layer", None)
        if isinstance(base, Linear) and type(base).forward is not Linear.forward:
            names.add(path.rpartition(".")[2])
    return ", ".join(sorted(names))


def _is_shortcut_right(trainer: Any, inputs: Mapping[str, Any], loss: float) -> bool:
    import torch

    try:
        # A copy: the trainer adds settings to what it is given.
        shortcut = float(trainer.compute_loss(trainer.model, dict(inputs)))
    except torch.OutOfMemoryError:
        raise
    # The model lacks a name that the shortcut looks for.
    except Exception:  # noqa: BLE001 - whatever a missing name leads to
        return False
    tolerance = _TOLERANCE[bool(trainer.args.bf16)]
    return math.isclose(shortcut, loss, rel_tol=tolerance)
