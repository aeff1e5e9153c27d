"""Which engine computes answers and losses: a part of what was scored, and so of what is served."""

from typing import Literal, get_args

from core.value import Value

EngineName = Literal["transformers", "openvino", "vllm"]

ENGINE_NAMES: tuple[EngineName, ...] = get_args(EngineName)


class InstalledEngine(Value):
    """An engine, and the version of its library on the machine that scores."""

    name: EngineName
    version: str


def find_engine(name: str) -> EngineName | None:
    """The engine of that name; None where there is none."""
    for engine in ENGINE_NAMES:
        if name == engine:
            return engine
    return None
