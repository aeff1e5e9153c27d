"""What holds on a CPU holds on a GPU.

Training, going on after a kill, answers, losses, the served engine.

`pytest --noconftest tests/gpu` needs little beside torch, transformers, peft, trl, datasets and
cryptography.
Without CUDA everything here is skipped.
"""

import copy
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import NotEnoughResources
from core.files import folder_digests
from pipelines.engines import Event, Failed, GenerationRequest, Piece
from pipelines.engines.transformers import TransformersEngine
from pipelines.models.adapter_files import check_adapter
from pipelines.models.asked_rows import Generated
from pipelines.models.language_model import (
    LanguageModel,
    generate,
    load_language_model,
    measure_completion_losses,
)
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message
from pipelines.values.evidence import Adapter
from pipelines.values.serving_spec import ServingSpec
from tests.support.tiny import (
    CHAT_TEMPLATE,
    MAX_TOKENS,
    make_tiny_adapter,
    make_tiny_base,
    tiny_manifest,
)
from tests.support.workshop import ROWS, Workshop, params

ON_GPU = torch.cuda.is_available()
ROOT = Path(__file__).resolve().parents[2]
TEXTS = tuple(
    f"{verb} {thing}"
    for verb in ("list", "copy", "sort a", "é 日本")
    for thing in ("files", "a disk", "x" * 40, "?")
)
SAME_LOSS = 1e-3
"""Relative. Sums are in another order on a GPU, and not always in the same one."""
SAME_ANSWERS = 0.9
"""Share of answers that must be the same, token for token, in float32.

A tie within rounding may fall either way.
"""
SECONDS_TO_TRAIN = 120

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not ON_GPU, reason="torch finds no CUDA here"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="module")
def manifest(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModelManifest:
    return tiny_manifest(tiny, tmp_path_factory.mktemp("home"))


@pytest.fixture
def workshop(tiny: Path, manifest: BaseModelManifest, tmp_path: Path) -> Workshop:
    return Workshop(base=manifest, base_folder=tiny, root=tmp_path)


@pytest.fixture(scope="module")
def adapter(
    tiny: Path, manifest: BaseModelManifest, tmp_path_factory: pytest.TempPathFactory
) -> Adapter:
    return make_tiny_adapter(
        tiny, manifest, tmp_path_factory.mktemp("adapter") / "adapter"
    )


@pytest.fixture(scope="module")
def tuned(tiny: Path, manifest: BaseModelManifest, adapter: Adapter) -> LanguageModel:
    return load_language_model(
        manifest, tiny, CHAT_TEMPLATE, "float32", Path(adapter.folder)
    )


@pytest.fixture(scope="module")
def untuned(tiny: Path, manifest: BaseModelManifest) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


@pytest.fixture
def engine(
    tuned: LanguageModel, manifest: BaseModelManifest, adapter: Adapter
) -> Iterator[TransformersEngine]:
    spec = ServingSpec.of_transformers(manifest, "float32", MAX_TOKENS)
    made = TransformersEngine(
        tuned, {"tuned": spec.with_adapter(adapter.sha256), "tiny": spec}
    )
    yield made
    made.close()


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_training_on_a_gpu_moves_the_adapter_and_leaves_the_base_alone(
    workshop: Workshop, precision: str
) -> None:
    before = folder_digests(workshop.base_folder)
    made = workshop.run(params(precision=precision))
    has_bfloat16 = torch.cuda.get_device_capability() >= (8, 0)
    assert made.device.startswith("cuda")
    assert made.precision == (
        "bfloat16" if precision == "auto" and has_bfloat16 else "float32"
    )
    assert made.moved > 0
    assert min(look.loss for look in made.dev_losses[1:]) < made.dev_losses[0].loss
    assert folder_digests(workshop.base_folder) == before
    check_adapter(Path(made.folder), made, workshop.base)


def test_training_on_a_gpu_takes_the_course_that_it_takes_on_a_cpu(
    workshop: Workshop,
) -> None:
    on_gpu = workshop.run(params(), name="gpu")
    with started(workshop, "cpu", {}, CUDA_VISIBLE_DEVICES="") as process:
        out, err = process.communicate(timeout=SECONDS_TO_TRAIN)
    assert process.returncode == 0, err
    on_cpu = json.loads(out.splitlines()[-1])
    assert on_cpu["device"] == "cpu"
    assert [look.loss for look in on_gpu.dev_losses] == pytest.approx(
        on_cpu["losses"], rel=SAME_LOSS
    )


def test_a_killed_training_goes_on_from_its_checkpoint_and_ends_with_the_same_losses(
    workshop: Workshop,
) -> None:
    settings: dict[str, Any] = {
        "max_steps": 300,
        "evaluate_every": 20,
        "patience": 100,
        "learning_rate": 0.001,
        "dropout": 0.1,
    }
    whole = workshop.run(params(**settings), name="whole")
    with started(workshop, "killed", settings) as process:
        end = time.monotonic() + SECONDS_TO_TRAIN
        while not (
            workshop.root / "killed/scratch/checkpoint-40/digests.json"
        ).is_file():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.002)
        process.kill()
    resumed = workshop.run(params(**settings), name="killed")
    assert resumed.resumed_from[0] in range(20, 300)
    print(
        f"resumed from step {resumed.resumed_from[0]}; the same bytes: "
        f"{resumed.sha256 == whole.sha256}"
    )
    assert [look.step for look in resumed.dev_losses] == [
        look.step for look in whole.dev_losses
    ]
    assert [look.loss for look in resumed.dev_losses] == pytest.approx(
        [look.loss for look in whole.dev_losses], rel=SAME_LOSS
    )


def test_a_training_that_the_gpu_cannot_hold_is_one_sentence(
    workshop: Workshop,
) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + 2**20) / total
    )
    try:
        with pytest.raises(
            NotEnoughResources,
            match=r"^Training does not fit into the memory of the GPU\. Lower train\.batch_size",
        ):
            workshop.run(params(batch_size=512), ROWS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("which", ["tuned", "untuned"])
def test_a_gpu_answers_as_a_cpu_does_and_a_batch_as_each_prompt_alone(
    which: str, request: pytest.FixtureRequest
) -> None:
    on_gpu: LanguageModel = request.getfixturevalue(which)
    prompts = [
        on_gpu.encoder.prompt_ids((Message(role="user", content=text),))
        for text in TEXTS
    ]
    together = generate(
        on_gpu, prompts, max_new_tokens=MAX_TOKENS, batch_size=len(prompts)
    )
    alone = [
        generate(on_gpu, [prompt], max_new_tokens=MAX_TOKENS, batch_size=1)[0]
        for prompt in prompts
    ]
    on_cpu = generate(
        moved_to_cpu(on_gpu),
        prompts,
        max_new_tokens=MAX_TOKENS,
        batch_size=len(prompts),
    )
    assert on_gpu.device == "cuda"
    assert any(answer.ids for answer in together)
    shares = {
        "batch = alone": share(together, alone),
        "GPU = CPU": share(together, on_cpu),
    }
    print(f"{which}, float32, {len(prompts)} answers: {shares}")
    assert min(shares.values()) >= SAME_ANSWERS


@pytest.mark.parametrize("which", ["tuned", "untuned"])
def test_losses_on_a_gpu_are_those_on_a_cpu(
    which: str, request: pytest.FixtureRequest
) -> None:
    on_gpu: LanguageModel = request.getfixturevalue(which)
    rows = [
        on_gpu.encoder.encode_example((Message(role="user", content=asked),), answer)
        for asked, answer in zip(TEXTS, reversed(TEXTS), strict=True)
    ]
    found, expected = (
        measure_completion_losses(language, rows, batch_size=5)
        for language in (on_gpu, moved_to_cpu(on_gpu))
    )
    print(
        f"{which}: largest relative difference "
        f"{max(abs(a - b) / b for a, b in zip(found, expected, strict=True)):.1e}"
    )
    assert found == pytest.approx(expected, rel=SAME_LOSS)


def test_the_engine_on_a_gpu_answers_what_was_scored_with_and_without_the_adapter(
    engine: TransformersEngine, tuned: LanguageModel, untuned: LanguageModel
) -> None:
    answers = {}
    for model, language in (("tuned", tuned), ("tiny", untuned)):
        conversations = [(Message(role="user", content=text),) for text in TEXTS[:8]]
        prompts = [language.encoder.prompt_ids(messages) for messages in conversations]
        scored = [
            generate(language, [prompt], max_new_tokens=MAX_TOKENS, batch_size=1)[0]
            for prompt in prompts
        ]
        answers[model] = [answer(engine, model, messages) for messages in conversations]
        assert answers[model] == [language.encoder.decode(each.ids) for each in scored]
    assert answers["tuned"] != answers["tiny"]


def test_a_seed_repeats_a_sampled_answer_on_a_gpu(engine: TransformersEngine) -> None:
    messages = (Message(role="user", content=TEXTS[0]),)
    first, again, other = (
        answer(engine, "tuned", messages, temperature=1.0, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again != other


def started(
    workshop: Workshop, name: str, settings: dict[str, Any], **environment: str
) -> subprocess.Popen[str]:
    """A training in a process of its own."""
    base = workshop.root / "base_model.json"
    workshop.base.write(base)
    command = [
        sys.executable,
        "-m",
        "tests.support.workshop",
        *map(
            str, (base, workshop.base_folder, workshop.root, name, json.dumps(settings))
        ),
    ]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def moved_to_cpu(language: LanguageModel) -> LanguageModel:
    return replace(language, model=copy.deepcopy(language.model).cpu(), device="cpu")


def share(found: Sequence[Generated], expected: Sequence[Generated]) -> float:
    return sum(a == b for a, b in zip(found, expected, strict=True)) / len(found)


def answer(
    engine: TransformersEngine,
    model: str,
    messages: tuple[Message, ...],
    temperature: float = 0.0,
    seed: int = 0,
) -> str:
    events: queue.Queue[Event] = queue.Queue()
    engine.submit(
        GenerationRequest(
            model,
            tuple(engine.prompt_ids(messages, model)),
            MAX_TOKENS,
            temperature,
            seed=seed,
        ),
        events.put,
    )
    text = ""
    while isinstance(event := events.get(timeout=60), Piece):
        text += event.text
    assert not isinstance(event, Failed), event
    return text
