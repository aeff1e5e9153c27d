"""The loaded weights, which OpenVINO reads once more than it needs them.

OpenVINO computes by a form of the weights of its own and holds on to those that it was given. Where
these lie in a file, memory need not hold both.
"""

import ctypes
import mmap
import os
import tempfile
from typing import Any

import torch

# Of a cache line, and of the widest registers.
_ALIGNMENT = 64


class WeightsFile:
    """A model's weights in a file that has no name, so that no other process finds it."""

    def __init__(self, model: Any) -> None:
        """Move them there; they can be used as before. `OSError` where there is no room."""
        # A weight that is used in two places is one of them.
        tensors = [*model.parameters(), *model.buffers()]
        sizes = [_aligned(tensor.nbytes) for tensor in tensors]
        total = max(sum(sizes), _ALIGNMENT)
        with tempfile.TemporaryFile(prefix="assay-weights-") as file:
            # A hole that cannot be filled later would end the process.
            os.posix_fallocate(file.fileno(), 0, total)
            self._mapping = mmap.mmap(file.fileno(), total)
        start = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            if tensor.nbytes:
                tensor.data = self._moved(tensor.data, start)
            start += size

    def leave_memory(self) -> None:
        """Give their memory back. Whoever reads them again reads the file."""
        self._mapping.madvise(mmap.MADV_DONTNEED)
        # What loading took before lies between what is still used.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

    def _moved(self, tensor: torch.Tensor, start: int) -> torch.Tensor:
        flat = torch.frombuffer(
            self._mapping,
            dtype=tensor.dtype,
            count=tensor.numel(),
            offset=start,
        )
        moved = flat.view(tensor.shape)
        return moved.copy_(tensor)


def _aligned(size: int) -> int:
    lines = -(-size // _ALIGNMENT)
    return lines * _ALIGNMENT
