"""An adapter's matrices, as peft reads them onto a skeleton of its base.

peft decides which layers an adapter changes, and how its alpha and ranks make a scale. A skeleton
has all modules of the base and none of its weights, so that this costs no second base, and changes
nothing in the one that answers.
"""

import copy
import threading
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from core.errors import ServingError, first_line
from pipelines.engines.shared.stack import Adapter, Matrices

_NAME = "default"
_PREFIX = "base_model.model."


class Skeleton:
    """A base without its weights."""

    def __init__(self, model: Any) -> None:
        """Of a loaded base that has no adapter."""
        hollow: dict[int, Any] = {}
        for weight in model.parameters():
            shell = torch.nn.Parameter(_shell(weight), requires_grad=False)
            hollow[id(weight)] = shell
        for buffer in model.buffers():
            hollow[id(buffer)] = _shell(buffer)
        self._model = copy.deepcopy(model, hollow)
        # Which warnings are errors holds for all threads: of two readers, the one that ends first
        # would have those of the other one pass.
        self._reading = threading.Lock()

    def read(self, folder: Path) -> Adapter:
        """The matrices of an adapter that was checked, by the name of their layer in the base.

        `ServingError` where it does anything but add a scaled product to linear layers.
        """
        try:
            layers = _adapted_layers(self._load(folder))
        except ServingError:
            raise
        # What peft raises for a file that it does not read, a module or a matrix that is not there.
        except (
            ValueError,
            TypeError,
            KeyError,
            RuntimeError,
            OSError,
            UserWarning,
        ) as error:
            raise ServingError(
                f"peft does not load {folder}: {first_line(error)}. Serve it by itself."
            ) from error
        return {name: _read_layer(name, layer) for name, layer in layers.items()}

    def _load(self, folder: Path) -> Any:
        from peft import PeftModel

        # One of its own: peft exchanges modules of the model that it is given.
        shells = (*self._model.parameters(), *self._model.buffers())
        model = copy.deepcopy(self._model, {id(shell): shell for shell in shells})
        with self._reading, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A matrix that the file lacks would stay as peft drew it.
            warnings.filterwarnings("error", "Found missing adapter keys")
            return PeftModel.from_pretrained(model, str(folder), is_trainable=False)


def _shell(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that looks the same and takes no memory: one number everywhere.

    On the processor, not on torch's device for that: peft puts an adapter where its layer is.
    """
    number = torch.zeros((), dtype=tensor.dtype)
    return number.expand(tensor.shape)


def adapted_layers_of(model: Any) -> frozenset[str]:
    """Names in the base of the layers that the adapter of a model by peft changes."""
    return frozenset(_adapted_layers(model))


def _adapted_layers(model: Any) -> Mapping[str, Any]:
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    layers: dict[str, Any] = {}
    modules: Iterable[tuple[str, Any]] = model.named_modules()
    for name, module in modules:
        if isinstance(module, AuxiliaryTrainingWrapper):
            raise ServingError(
                f"The adapter exchanges all of {name}, and only LoRA of linear layers shares a "
                "process."
            )
        if not isinstance(module, BaseTunerLayer):
            continue
        if not _is_plain(module):
            raise ServingError(
                f"The adapter does more than LoRA of a linear layer in {name}, "
                "and only that shares a process."
            )
        layers[name.removeprefix(_PREFIX)] = module
    if not layers:
        raise ServingError("The adapter changes no layer of its base.")
    return layers


def _is_plain(layer: Any) -> bool:
    """Whether it computes a layer of its base and a scaled product of two matrices."""
    from peft.tuners.lora import Linear

    # Kinds of it compute something else.
    if type(layer) is not Linear or layer.lora_variant:
        return False
    return not any(layer.lora_bias.values())


def _read_layer(name: str, layer: Any) -> Matrices:
    down, up = layer.lora_A[_NAME].weight, layer.lora_B[_NAME].weight
    scaled = up.detach() * layer.scaling[_NAME]
    # Of other rows' zeros it would make what is no number.
    if not torch.isfinite(scaled).all() or not torch.isfinite(down).all():
        raise ServingError(
            f"The adapter's matrices of {name} are not finite once they are scaled."
        )
    return Matrices(down.detach().clone(), scaled.T.contiguous())
