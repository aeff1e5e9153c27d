"""Take in an adapter that was trained elsewhere: its weights, under a configuration of our own.

brought   adapter_config.json ─ what it means, or a refusal ─► LoraParams
          adapter_model.safetensors ─ copied ─► names and shapes against the base
written   both files, as if training here had saved them

peft, Axolotl, Unsloth and LLaMA-Factory save the same two files, and others beside them, which
stay where they are: nothing in them is read.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from core.errors import UnsafeAdapter
from core.files import write_text
from pipelines.models.adapter_files import CONFIG, WEIGHTS, check_plain_lora
from pipelines.models.foreign_config import ForeignAdapter
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import LoraParams

_LORA_NAME = re.compile(r"base_model\.model\.([\w.]+)\.lora_([AB])\.weight")
Shapes = dict[str, dict[str, tuple[int, ...]]]
"""By module and half, A or B."""


def take_in(
    foreign: ForeignAdapter, base: BaseModelManifest, base_folder: Path, into: Path
) -> LoraParams:
    """Copy the weights into the folder `into` beside a configuration as training here writes it.

    Gives what they are. `UnsafeAdapter` where they are no plain LoRA of this base's layers.
    """
    # Whatever an earlier attempt left there must not be mixed with it.
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    weights = into / WEIGHTS
    # Checked as a copy: the folder that was brought may change meanwhile.
    shutil.copyfile(foreign.folder / WEIGHTS, weights)
    shapes = _read_shapes(weights)
    layers = _layers_of(base_folder)
    _check_fit(weights, shapes, layers, base)
    modules = _shortest_names(foreign.names, set(shapes), set(layers))
    lora = foreign.lora.model_copy(update={"target_modules": modules})
    _write_config(into, lora, base)
    # As it is checked before it is served: what fails there must not get this far.
    check_plain_lora(into, lora)
    return lora


def _read_shapes(path: Path) -> Shapes:
    """The shape of each half of each module, from the file's header alone."""
    shapes: Shapes = {}
    for name, shape in _header(path):
        match = _LORA_NAME.fullmatch(name)
        if match is None:
            raise UnsafeAdapter(
                f"{WEIGHTS} holds {name[:80]!r}, which is no matrix of a plain LoRA, as of "
                "embeddings, DoRA or a layer that was trained whole. Train without it."
            )
        module, half = match[1], match[2]
        shapes.setdefault(module, {})[half] = shape
    if not shapes or any(len(halves) < 2 for halves in shapes.values()):
        raise UnsafeAdapter(
            f"{path.name} does not hold a lora_A and a lora_B for each of its modules. "
            "Save the adapter again."
        )
    return shapes


def _header(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as tensors:
            # `safe_open` gives a reader, not a mapping.
            for name in tensors.keys():  # noqa: SIM118
                yield name, tuple(tensors.get_slice(name).get_shape())
    except SafetensorError as error:
        raise UnsafeAdapter(
            f"{WEIGHTS} is no whole safetensors file. Copy the adapter once more."
        ) from error


def _layers_of(base_folder: Path) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer of the base, without its weights in memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    config = AutoConfig.from_pretrained(
        str(base_folder), local_files_only=True, trust_remote_code=False
    )
    # Shapes alone: the weights would take gigabytes to answer a question of names.
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, trust_remote_code=False
        )
    layers: dict[str, tuple[int, int]] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            layers[name] = (module.in_features, module.out_features)
        # GPT-2 keeps its matrices turned.
        if isinstance(module, Conv1D):
            inputs, outputs = module.weight.shape
            layers[name] = (int(inputs), int(outputs))
    return layers


def _check_fit(
    path: Path,
    shapes: Shapes,
    layers: dict[str, tuple[int, int]],
    base: BaseModelManifest,
) -> None:
    # Names and shapes are all that can be compared: nothing in the file names its base's bytes.
    for module, halves in shapes.items():
        if module not in layers:
            raise UnsafeAdapter(
                f"{path.name} changes {module}, and {base.id} has no such linear layer. "
                "Give the base that it was trained on with --base."
            )
        # A change of the output layer would be one of the embeddings where the two are tied.
        if module.endswith("lm_head"):
            raise UnsafeAdapter(
                f"{path.name} changes {module}, the output layer, which Assay does not serve. "
                "Train without it."
            )
        inputs, outputs = layers[module]
        down, up = halves["A"], halves["B"]
        fits = len(down) == 2 and len(up) == 2 and (down[1], up[0]) == (inputs, outputs)
        if not fits:
            raise UnsafeAdapter(
                f"{path.name}: {module} has shapes {down} and {up}, and that layer of {base.id} "
                f"takes {inputs} numbers to {outputs}. "
                "Give the base that it was trained on with --base."
            )


def _shortest_names(
    names: tuple[str, ...], changed: set[str], layers: set[str]
) -> tuple[str, ...]:
    """The brought names where they mean exactly the changed layers, else each layer's own."""
    ends = tuple(f".{name}" for name in names)
    # As peft reads names: a whole one, or the end of one.
    named = {layer for layer in layers if f".{layer}".endswith(ends)}
    # A name that means more layers would train and serve some that the file leaves alone.
    if named == changed:
        return names
    own = sorted(changed)
    return tuple(own)


def _write_config(folder: Path, lora: LoraParams, base: BaseModelManifest) -> None:
    """Write peft's configuration of a plain LoRA with these numbers, and nothing else in it."""
    from peft import LoraConfig

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
        bias="none",
        inference_mode=True,
        base_model_name_or_path=base.id,
    )
    config.save_pretrained(str(folder))
    path = folder / CONFIG
    document = json.loads(path.read_text(encoding="utf-8"))
    # peft keeps a set, whose order is another one in each process.
    document["target_modules"] = sorted(lora.target_modules)
    text = json.dumps(document, indent=1, sort_keys=True)
    write_text(path, text + "\n")
