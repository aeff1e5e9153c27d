"""Weights in a file are the same weights, and need no memory while nobody reads them."""

import copy
import tempfile
from pathlib import Path

import pytest
import torch

from pipelines.engines.openvino.weights import WeightsFile

MEGABYTES = 8


class Tied(torch.nn.Module):
    """Two layers of one weight, a small one of another type, and one with nothing in it."""

    def __init__(self) -> None:
        super().__init__()
        size = MEGABYTES * 1024 * 1024 // 4
        self.weight = torch.nn.Parameter(torch.arange(size, dtype=torch.float32))
        self.same = self.weight
        self.three: torch.Tensor
        self.register_buffer("three", torch.tensor([1, 2, 3]))
        self.register_buffer("nothing", torch.empty(0))


def resident_kb(tensor: torch.Tensor) -> int:
    """How much of the mapping that a tensor lies in is in memory."""
    address = tensor.data_ptr()
    is_it = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            begin, _, end = first.partition("-")
            is_it = int(begin, 16) <= address < int(end, 16)
        elif is_it and first == "Rss:":
            return int(rest[0])
    raise AssertionError("no mapping holds it")


def test_weights_in_a_file_leave_memory_and_are_the_same() -> None:
    model = Tied()
    expected = copy.deepcopy(model.state_dict())
    weights = WeightsFile(model)
    assert model.same is model.weight
    assert resident_kb(model.weight) >= MEGABYTES * 1024
    weights.leave_memory()
    assert resident_kb(model.weight) < 1024
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name])
        assert tensor.dtype == expected[name].dtype
    assert model.weight.data_ptr() % 64 == 0
    assert model.three.data_ptr() % 64 == 0


def test_without_a_place_for_a_file_the_weights_stay_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    model = Tied()
    before = model.weight.data_ptr()
    with pytest.raises(OSError, match="none"):
        WeightsFile(model)
    assert model.weight.data_ptr() == before
