"""What computes answers: what a release begins with, and what takes it over later.

ASSAY_ENGINE, what is installed ─▶ EngineWish ── choose(what scored) ─▶ EngineChoice
"""

from dataclasses import dataclass
from importlib.util import find_spec

from core.log import say
from core.settings import Settings
from pipelines.engines import OPENVINO, TRANSFORMERS, VLLM
from serving.load import engine_wanted

SHAREABLE = (OPENVINO, TRANSFORMERS)
"""Those whose processes take several releases: vLLM's server has one adapter."""


@dataclass(frozen=True)
class EngineChoice:
    """The engines of one release."""

    # Loaded at once: a release waits for it.
    first: str = TRANSFORMERS
    # Takes a release over once it serves; empty: nothing does.
    later: str = ""
    # Its answers are those that must come back.
    scored: str = TRANSFORMERS

    @property
    def quickest(self) -> str:
        """What is loaded where a release that served is to answer again."""
        if not self.later:
            return self.first
        # vLLM takes a minute to start. OpenVINO takes seconds, and scored this release itself.
        return OPENVINO if self.scored == OPENVINO else TRANSFORMERS

    @property
    def lasting(self) -> str:
        """What answers in the end."""
        return self.later or self.first

    @property
    def stand_in(self) -> str:
        """What may answer, with the scored answers, where what scored cannot; empty: nothing."""
        return "" if self.scored == TRANSFORMERS else TRANSFORMERS

    def allows(self, engine: str) -> bool:
        """Whether a process of that engine may answer."""
        return engine in (self.first, self.lasting, self.scored, self.stand_in)


@dataclass(frozen=True)
class EngineWish:
    """What an endpoint is asked to compute by, and what it has for that."""

    # Empty: no engine is asked for.
    engine: str = ""
    has_openvino: bool = False

    def choose(self, scored: str) -> EngineChoice:
        """The engines of a release that was scored by that one."""
        first, later = self._engines_for(scored)
        return EngineChoice(first, later, scored)

    def _engines_for(self, scored: str) -> tuple[str, str]:
        engine = self.engine or scored
        # It takes a minute to start, for which whoever asks does not wait a second time.
        if engine == VLLM:
            return VLLM, VLLM
        if engine == OPENVINO and scored != TRANSFORMERS:
            return OPENVINO, ""
        # OpenVINO compiles each adapter for seconds, for which no release is to wait that
        # transformers can answer.
        takes_over = scored == TRANSFORMERS and self.engine != TRANSFORMERS
        return TRANSFORMERS, OPENVINO if takes_over and self.has_openvino else ""


def read_wish(settings: Settings) -> EngineWish:
    """What the environment asks for, and what is installed; `ServingError` for an unknown name."""
    wanted = engine_wanted(settings) if settings.engine else ""
    # Found and not imported: this process computes nothing.
    has_openvino = find_spec(OPENVINO) is not None
    if wanted == OPENVINO and not has_openvino:
        say(
            "ASSAY_ENGINE is openvino, and openvino is not installed here: transformers "
            "answers. `pip install 'assay[openvino]'`, then start the endpoint again."
        )
        wanted = ""
    return EngineWish(wanted, has_openvino)
