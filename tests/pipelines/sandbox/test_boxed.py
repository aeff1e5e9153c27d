"""What crosses from one box to the other, and where there are no boxes."""

import math
import shutil
from collections import Counter
from typing import Any

import pytest

from core.errors import SandboxUnavailable
from pipelines.sandbox import box
from pipelines.sandbox.boxed import AnswerEnded, Unsendable, decode, encode
from pipelines.sandbox.run import Trial, run_trial
from pipelines.sandbox.system_calls import filter_program


@pytest.mark.parametrize(
    "thing",
    [
        None,
        True,
        -(2**53),
        pytest.param(10**5000, id="huge"),
        0.1,
        -math.inf,
        2 + 3j,
        "é\x00",
        b"\xff",
        [1, (2, {3}), frozenset({4})],
        {(1, 2): [None], "a": {}},
    ],
)
def test_plain_data_crosses_as_it_is(thing: Any) -> None:
    crossed = decode(encode(thing))
    assert crossed == thing
    assert type(crossed) is type(thing)


def test_a_subclass_crosses_as_the_plain_type() -> None:
    crossed = decode(encode(Counter("aab")))
    assert type(crossed) is dict
    assert crossed == {"a": 2, "b": 1}


@pytest.mark.parametrize("thing", [object(), print, iter([]), [lambda: 1], {1: math}])
def test_nothing_else_crosses(thing: Any) -> None:
    with pytest.raises(Unsendable, match="is no plain data"):
        encode(thing)


@pytest.mark.parametrize(
    "document",
    [
        [1],
        5,
        0.5,
        {},
        {"list": 1},
        {"list": [1], "set": [1]},
        {"eval": "1"},
        {"int": "x"},
        {"float": None},
        {"complex": ["0x1p0"]},
        {"bytes": "x"},
        {"dict": [[1]]},
        {"set": [{"list": []}]},
    ],
)
def test_no_other_document_is_read(document: Any) -> None:
    with pytest.raises(AnswerEnded, match="no plain data"):
        decode(document)


def test_nothing_runs_without_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    box.find_bubblewrap.cache_clear()
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        run_trial(Trial(code="", tests=""))
    box.find_bubblewrap.cache_clear()


def test_no_filter_is_made_up_for_another_processor() -> None:
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        filter_program("riscv64")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_is_whole_instructions_and_ends_with_allow(machine: str) -> None:
    program = filter_program(machine)
    assert len(program) % 8 == 0
    assert program[-8:] == bytes.fromhex("060000000000ff7f")
