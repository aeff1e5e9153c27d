"""What vLLM's server is to serve, as its command line and its environment."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from core.children import OUTLIVES, RUN_PID, SYSTEM_PID
from pipelines.engines import NotTaken
from pipelines.engines.vllm.inside.only_owner import TOKEN

MOST_LOGPROBS = 20
"""As many likeliest tokens as the endpoint lets a request ask for."""
_INSIDE = Path(__file__).with_name("inside")
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` takes."""
# Settings of vLLM's would change what is served; the others are of no use to it, and some of them
# hold passwords. Python's are those of our own environment.
_KEPT_BACK = ("VLLM_", "ASSAY_", "MLFLOW_", "PREFECT_", "PYTHON")
# By which the supervisor knows whose process it is.
_LIFETIME = (OUTLIVES, RUN_PID, SYSTEM_PID)


@dataclass(frozen=True)
class Address:
    """How the server is called: its socket, and the token without which it answers nothing."""

    socket: Path
    token: str = field(repr=False)


@dataclass(frozen=True)
class AdapterOrder:
    """A LoRA adapter, which answers under the digest of its weights."""

    name: str
    folder: Path
    rank: int
    # One more than there are adapters: on a processor vLLM 0.32 computes a row without an adapter
    # by what lies in the last place (its pull request 48421), and nothing may lie there.
    places: int = 2

    @property
    def words(self) -> tuple[str, ...]:
        """The part of the command line."""
        module = {"name": self.name, "path": str(self.folder)}
        return (
            "--enable-lora",
            "--lora-modules",
            json.dumps(module),
            "--max-loras",
            str(self.places),
            "--max-lora-rank",
            str(self._room),
        )

    @property
    def _room(self) -> int:
        for rank in _RANKS:
            if rank >= self.rank:
                return rank
        raise NotTaken(
            f"its adapter has rank {self.rank}, and vLLM takes {_RANKS[-1]} at most"
        )


@dataclass(frozen=True)
class ServerOrder:
    """One base, which answers under its digest, and at most one adapter."""

    python: Path
    base_name: str
    base_folder: Path
    precision: str
    context_tokens: int
    # Bytes of keys and values, of all answers together.
    cache_bytes: int
    # Answers at once.
    rows: int
    threads: int
    is_on_processor: bool
    adapter: AdapterOrder | None = None

    def command(self, address: Address) -> list[str]:
        """Of vLLM's own server, with its own Python."""
        words = [
            str(self.python),
            "-m",
            "vllm.entrypoints.openai.api_server",
            *self._model,
            *self._bounds,
            # The library that holds ours to JSON as well. For it alone vLLM has a tokenizer: token
            # ids go in and come out.
            "--structured-outputs-config",
            json.dumps({"backend": "guidance"}),
            "--uds",
            str(address.socket),
            "--middleware",
            "only_owner.OnlyOwner",
            "--disable-fastapi-docs",
            "--disable-uvicorn-access-log",
            "--uvicorn-log-level",
            "warning",
        ]
        if self.is_on_processor:
            words.append("--enforce-eager")
        if self.adapter is not None:
            words += self.adapter.words
        return words

    def environment(self, address: Address) -> dict[str, str]:
        """What it inherits, and what it is told."""
        return {
            **_inherited(os.environ),
            TOKEN: address.token,
            "PYTHONPATH": str(_INSIDE),
            "OMP_NUM_THREADS": str(self.threads),
            # Threads that spin while they wait take the processor from those that compute.
            "OMP_WAIT_POLICY": "PASSIVE",
            # Bound to cores, two engines would share some while others have no work.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "PYTHONWARNINGS": "ignore",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_PLUGINS": "",
            # Its warnings would quote schemas.
            "LLGUIDANCE_LOG_LEVEL": "0",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
        }

    @property
    def _model(self) -> tuple[str, ...]:
        return (
            "--model",
            str(self.base_folder),
            "--served-model-name",
            self.base_name,
            "--dtype",
            self.precision,
            "--load-format",
            "safetensors",
            # Without the base's own: a penalty of it would change answers that are called greedy.
            "--generation-config",
            "vllm",
        )

    @property
    def _bounds(self) -> tuple[str, ...]:
        return (
            "--max-model-len",
            str(self.context_tokens),
            "--max-num-seqs",
            str(self.rows),
            "--max-logprobs",
            str(MOST_LOGPROBS),
            "--kv-cache-memory-bytes",
            str(self.cache_bytes),
            # What must be free at the start; the cache has its own bound.
            "--gpu-memory-utilization",
            "0.1",
        )


def _inherited(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environment.items() if _is_kept(name)}


def _is_kept(name: str) -> bool:
    return name in _LIFETIME or not name.startswith(_KEPT_BACK)
