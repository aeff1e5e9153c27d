"""What a training run will take, estimated before it starts, and whether this machine has it."""

import shutil
import sys
from pathlib import Path

from core.errors import NotEnoughResources
from core.value import Value
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import Params

# float32, as weights are loaded for training on a CPU.
_BYTES_PER_WEIGHT = 4
# Python with torch, transformers and trl loaded, measured at 1.1 GB.
_PROCESS_BYTES = 1_200_000_000
# Bytes a token of a batch for each 135M of weights, without gradient checkpointing,
# measured at 0.5 MB.
_ACTIVATIONS_PER_TOKEN = 600_000
_REFERENCE_WEIGHTS = 135_000_000
# Three checkpoints, each with the weights and the optimizer's two moments.
_CHECKPOINTS = 9
_DISK_BESIDE_CHECKPOINTS = 200_000_000


class Needs(Value):
    """Bytes that the largest stage holds in memory, and that a run leaves on disk."""

    memory: int
    disk: int

    def beside_a_gpu(self, base: BaseModelManifest) -> "Needs":
        """Return what the machine's own memory still needs beside a GPU.

        That is the libraries, and the weights on their way. The GPU's memory is not
        estimated, since gradients are checkpointed there.
        """
        weights = base.parameters * _BYTES_PER_WEIGHT
        memory = int(_PROCESS_BYTES + weights)
        changes = {"memory": memory}
        return self.model_copy(update=changes)


def estimate_needs(
    base: BaseModelManifest, params: Params, longest_row_tokens: int, rows: int
) -> Needs:
    """Estimate from above what training on a CPU takes, in bytes.

    Memory is for weights, activations of the largest batch, logits and the libraries.
    """
    tokens_per_row = min(longest_row_tokens, params.train.max_tokens)
    rows_per_batch = min(params.train.batch_size, rows)
    tokens = tokens_per_row * rows_per_batch
    # A smaller base has smaller activations, but was not measured: it counts as 135M.
    scale = max(1.0, base.parameters / _REFERENCE_WEIGHTS)
    weights = base.parameters * _BYTES_PER_WEIGHT
    activations = tokens * _ACTIVATIONS_PER_TOKEN * scale
    memory = _PROCESS_BYTES + 1.5 * weights + activations
    adapter = int(weights * 0.15) + 50_000_000
    checkpoints = _CHECKPOINTS * adapter
    return Needs(
        memory=int(memory),
        disk=checkpoints + _DISK_BESIDE_CHECKPOINTS,
    )


def check_room(needed: Needs, home: Path) -> None:
    """Return only if the machine has room; `NotEnoughResources` before a run that would die."""
    memory = measure_free_memory()
    disk = shutil.disk_usage(_nearest_existing(home)).free
    if not memory >= needed.memory:
        raise NotEnoughResources(
            f"Training needs about {_in_gigabytes(needed.memory)} of memory "
            f"and {_in_gigabytes(memory)} is free. "
            "Lower train.batch_size, or shorten the rows."
        )
    if not disk >= needed.disk:
        raise NotEnoughResources(
            f"A run needs about {_in_gigabytes(needed.disk)} of disk "
            f"and {_in_gigabytes(disk)} is free at {home}. "
            "Free some, or set ASSAY_HOME."
        )


def measure_free_memory() -> int:
    """Bytes that a new process can have: the machine's, or what its container still allows."""
    import psutil

    on_machine: int = psutil.virtual_memory().available
    return min(on_machine, _free_in_container())


def _free_in_container() -> int:
    """Return what the control group (v2) still allows; the machine's figure ignores it."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        # No such files outside of a container; without a limit `memory.max` says "max".
        return sys.maxsize
    return limit - used


def _nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _in_gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
