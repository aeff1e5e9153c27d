"""What a batch of a new length costs in cuDNN's attention: `python -m benchmarks.gpu_attention`.

torch prefers cuDNN's kernel in half precision, and `leave_out_cudnn_attention` leaves it out. Both
compute attention in bfloat16 on lengths that neither has seen, one after another; the peer is
cuDNN. Without CUDA it says so and measures nothing.
"""

import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

_BATCH, _HEADS, _WIDTH = 16, 12, 64
_LENGTHS = range(100, 140)


def main() -> int:
    """Measure, print one JSON line last, and fail where leaving cuDNN out is slower."""
    import torch

    if not torch.cuda.is_available():
        print("torch finds no CUDA here: nothing is measured.")
        return 0
    _compute(7, queries=7)
    # By turns on other lengths: a length that was seen once costs cuDNN nothing more.
    seconds = {
        kind: {
            name: _seconds(_LENGTHS, is_cudnn=is_cudnn, is_answering=is_answering)
            for name, is_cudnn in (("cudnn", True), ("others", False))
        }
        for kind, is_answering in (("batch", False), ("one token", True))
    }
    medians = {
        kind: {name: statistics.median(each) for name, each in found.items()}
        for kind, found in seconds.items()
    }
    ratio = min(found["cudnn"] / found["others"] for found in medians.values())
    line = {
        "name": "gpu_attention",
        "value": round(ratio, 1),
        "unit": "seconds of cuDNN / seconds of torch's other kernels, at a new length",
        "goal": ">= 1",
        "met": ratio >= 1,
        "peer": "cuDNN",
        "runs": {"median_seconds": medians, "device": torch.cuda.get_device_name()},
    }
    print(json.dumps(line))
    return 0 if line["met"] else 1


def _seconds(
    lengths: Sequence[int], *, is_cudnn: bool, is_answering: bool
) -> list[float]:
    import torch

    torch.backends.cuda.enable_cudnn_sdp(is_cudnn)
    return [
        _compute(length, queries=1 if is_answering else length) for length in lengths
    ]


def _compute(length: int, queries: int) -> float:
    """Seconds of one attention with a mask, as padded batches have one."""
    import torch

    query = _numbers(queries)
    keys = _numbers(length)
    mask = torch.ones(_BATCH, 1, queries, length, dtype=torch.bool, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    torch.nn.functional.scaled_dot_product_attention(query, keys, keys, attn_mask=mask)
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _numbers(tokens: int) -> Any:
    import torch

    return torch.randn(
        _BATCH,
        _HEADS,
        tokens,
        _WIDTH,
        device="cuda",
        dtype=torch.bfloat16,
    )


if __name__ == "__main__":
    sys.exit(main())
