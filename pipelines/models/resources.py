"""What a training run will take, estimated before it starts, and whether this machine has it."""

import shutil
import sys
from pathlib import Path

from core.errors import NotEnoughResources
from core.value import Value
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import Params

_BYTES_PER_WEIGHT = 4
_PROCESS_BYTES = (
    1_200_000_000  # python with torch, transformers and trl loaded, measured at 1.1 GB
)
_ACTIVATIONS_PER_TOKEN = 600_000  # bytes a token of a batch for each 135M of weights without checkpointing, measured at 0.5 MB
_REFERENCE_WEIGHTS = 135_000_000
_CHECKPOINTS = (
    9  # three checkpoints, each with the weights and the optimizer's two moments
)


class Needs(Value):
    """Bytes that the largest stage holds in memory, and that a run leaves on disk."""

    memory: int
    disk: int

    def beside_a_gpu(self, base: BaseModelManifest) -> "Needs":
        """What is left for the machine's own memory: the libraries, and the weights on their way.

        The GPU's memory is not estimated, since gradients are checkpointed there.
        """
        return self.model_copy(
            update={"memory": int(_PROCESS_BYTES + base.parameters * _BYTES_PER_WEIGHT)}
        )


def needs(
    base: BaseModelManifest, params: Params, longest_row_tokens: int, rows: int
) -> Needs:
    """Upper estimate for training on a CPU: weights, activations of the largest batch, logits, the libraries themselves."""
    tokens = min(longest_row_tokens, params.train.max_tokens) * min(
        params.train.batch_size, rows
    )
    scale = max(1.0, base.parameters / _REFERENCE_WEIGHTS)
    weights = base.parameters * _BYTES_PER_WEIGHT
    adapter = int(weights * 0.15) + 50_000_000
    return Needs(
        memory=int(
            _PROCESS_BYTES + 1.5 * weights + tokens * _ACTIVATIONS_PER_TOKEN * scale
        ),
        disk=_CHECKPOINTS * adapter + 200_000_000,
    )


def check_room(needed: Needs, home: Path) -> None:
    """Refuse a run that would die for want of memory or disk, before it starts."""
    memory, free_disk = free_memory(), shutil.disk_usage(_existing(home)).free
    if not memory >= needed.memory:
        raise NotEnoughResources(
            f"Training needs about {_gb(needed.memory)} of memory and {_gb(memory)} is free. Lower train.batch_size, or shorten the rows."
        )
    if not free_disk >= needed.disk:
        raise NotEnoughResources(
            f"A run needs about {_gb(needed.disk)} of disk and {_gb(free_disk)} is free at {home}. Free some, or set ASSAY_HOME."
        )


def free_memory() -> int:
    """Bytes that a new process can have: the machine's, or what its container is still allowed."""
    import psutil

    return min(psutil.virtual_memory().available, _left_in_container())


def _left_in_container() -> int:
    """What the control group (v2) still allows, where there is one with a limit: the machine's own figure does not know it."""
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int(
            (group / "memory.current").read_text()
        )
    except (OSError, ValueError):
        return sys.maxsize


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
