"""What computes answers: what a release begins with, and what takes it over later."""

from dataclasses import dataclass
from importlib.util import find_spec

from core.log import say
from core.settings import Settings
from pipelines.engines import OPENVINO, TRANSFORMERS, VLLM
from serving.load import engine_wanted


@dataclass(frozen=True)
class EngineChoice:
    """The engines of an endpoint."""

    # Loaded at once: a release waits for it.
    first: str = TRANSFORMERS
    # Takes a release over once it serves; empty: nothing does.
    later: str = ""

    @property
    def quickest(self) -> str:
        """What is loaded where a release that served is to answer again."""
        return TRANSFORMERS if self.later else self.first

    @property
    def lasting(self) -> str:
        """What answers in the end."""
        return self.later or self.first


def choose_engines(settings: Settings) -> EngineChoice:
    """What the environment asks for, or what is installed; `ServingError` for an unknown name.

    OpenVINO compiles each adapter for seconds, for which no release is to wait.
    """
    # It takes a minute to start, for which whoever asks does not wait a second time.
    if settings.engine == VLLM:
        return EngineChoice(first=VLLM, later=VLLM)
    if settings.engine and engine_wanted(settings) != OPENVINO:
        return EngineChoice(settings.engine)
    # Found and not imported: this process computes nothing.
    if find_spec(OPENVINO) is not None:
        return EngineChoice(later=OPENVINO)
    if settings.engine:
        say(
            "ASSAY_ENGINE is openvino, and openvino is not installed here: transformers "
            "answers. `pip install 'assay[openvino]'`, then start the endpoint again."
        )
    return EngineChoice()
