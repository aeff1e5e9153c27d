"""Adapters that share an engine: each row is computed by its own, whatever is beside it."""

import gc
import random
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import AssayError, ServingError
from core.files import write_text
from pipelines.engines import (
    OPENVINO,
    TRANSFORMERS,
    Engine,
    Failed,
    Finished,
    GenerationRequest,
    Piece,
)
from pipelines.engines.refusal import Refusal
from pipelines.engines.shared.engine import ReleaseEngine
from pipelines.engines.shared.stack import Layer, Matrices, Stack
from pipelines.models.language_model import generate, load_language_model
from registry.release.package_signature import digest_of_package
from serving.load_shared import (
    ReleaseOrder,
    SharedBase,
    SharedConfig,
    check_weights,
    load_shared,
)
from serving.package import open_package
from tests.support.adapters import FORMS, PLAIN, write_adapter
from tests.support.listening import Listener
from tests.support.running_engine import Served
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_package, pack

NEW_TOKENS = 10
BASE = "tiny"
Prompt = tuple[int, ...]


@pytest.fixture(scope="module", params=[TRANSFORMERS, OPENVINO])
def shared(served: Served, request: pytest.FixtureRequest) -> Iterator[SharedBase]:
    made = load_shared(config_of(served, request.param))
    yield made
    made.close()


@pytest.fixture(scope="module")
def forms(served: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of adapters of every form, and of none for the base."""
    root = tmp_path_factory.mktemp("forms")
    return {
        name: write_adapter(served.base_folder, root / name, seed, settings)
        for seed, (name, settings) in enumerate(FORMS.items(), 21)
    }


@dataclass
class Attaching:
    """Attaches adapters that no package could hold, and detaches them after the test."""

    shared: SharedBase
    engine: Engine
    opened: list[ReleaseEngine]

    def __call__(
        self, folder: Path, change: Callable[[Any], None] | None = None
    ) -> ReleaseEngine:
        adapter = self.shared.skeleton.read(folder)
        for matrices in adapter.values():
            if change is not None:
                change(matrices)
        made = self.shared.engine.attach(adapter, self.engine.specs)
        self.opened.append(made)
        return made


@pytest.fixture
def attach(shared: SharedBase, engine: Engine) -> Iterator[Attaching]:
    attaching = Attaching(shared, engine, [])
    yield attaching
    for opened in attaching.opened:
        opened.close()


def config_of(served: Served, engine: str) -> SharedConfig:
    return SharedConfig(
        served.base_folder,
        served.base_manifest,
        served.package,
        engine=engine,
        has_stand_in=False,
    )


def prompts(count: int) -> list[Prompt]:
    """Token ids of any lengths, of which some begin alike."""
    dice = random.Random(7)
    shared = [dice.randrange(3, 250) for _ in range(40)]
    made = []
    for number in range(count):
        length = dice.choice([1, 2, 17, 33, 150])
        tokens = [dice.randrange(3, 250) for _ in range(length)]
        made.append(tuple([*shared, *tokens] if number % 2 == 0 else tokens))
    return made


def by_peft(
    served: Served, adapter: Path | None, asked: list[Prompt], length: int = NEW_TOKENS
) -> list[str]:
    language = load_language_model(
        served.base, served.base_folder, CHAT_TEMPLATE, "float32", adapter
    )
    texts = []
    for prompt in asked:
        (answer,) = generate(language, [prompt], max_new_tokens=length, batch_size=1)
        texts.append(language.encoder.decode(answer.ids))
    return texts


@pytest.mark.ci
def test_adapters_of_every_form_and_the_base_answer_at_once_as_peft_computes_them(
    served: Served, forms: dict[str, Path], attach: Attaching
) -> None:
    asked = prompts(6)
    engines = {name: attach(folder) for name, folder in forms.items()}
    expected = {name: by_peft(served, folder, asked) for name, folder in forms.items()}
    expected[BASE] = by_peft(served, None, asked)
    given: dict[str, list[str]] = {name: [] for name in expected}
    # More than there are rows, so that each slot is used by one after the other.
    for place, prompt in enumerate(asked):
        listeners = {
            name: Listener(each, GenerationRequest("tuned", prompt, NEW_TOKENS))
            for name, each in engines.items()
        }
        # The base is asked through any of them.
        through = tuple(engines.values())[place % len(engines)]
        plain = GenerationRequest(BASE, prompt, NEW_TOKENS)
        listeners[BASE] = Listener(through, plain)
        for name, listener in listeners.items():
            given[name].append(listener.rest()[0])
    assert given == expected
    assert len({tuple(texts) for texts in expected.values()}) == len(expected)


@pytest.mark.ci
def test_what_comes_and_goes_changes_nothing_of_answers_on_their_way(
    served: Served, forms: dict[str, Path], attach: Attaching
) -> None:
    (prompt,) = prompts(1)
    long = 120
    wide = attach(forms["wide"])
    tuned = Listener(wide, GenerationRequest("tuned", prompt, long))
    plain = Listener(wide, GenerationRequest(BASE, prompt, long))
    first = tuned.first()
    assert isinstance(first, Piece)
    for name in ("plain", "few-layers", "by-patterns"):
        other = attach(forms[name])
        asked = GenerationRequest("tuned", prompt, NEW_TOKENS)
        text, _ = Listener(other, asked).rest()
        assert [text] == by_peft(served, forms[name], [prompt])
        other.close()
    (expected,) = by_peft(served, forms["wide"], [prompt], long)
    assert first.text + tuned.rest()[0] == expected
    assert [plain.rest()[0]] == by_peft(served, None, [prompt], long)
    again = Listener(wide, GenerationRequest("tuned", prompt, long))
    assert again.rest()[0] == expected


@pytest.mark.ci
def test_an_adapter_whose_rows_overflow_fails_them_alone(
    served: Served, forms: dict[str, Path], attach: Attaching
) -> None:
    def enlarge(matrices: Matrices) -> None:
        matrices.down.fill_(1e38)
        matrices.up.fill_(-1e38)

    asked = prompts(4)
    plain = attach(forms["plain"])
    broken = attach(forms["wide"], enlarge)
    beside = attach(forms["few-layers"])
    listeners = []
    for prompt in asked:
        request = GenerationRequest("tuned", prompt, NEW_TOKENS)
        listeners.append([Listener(each, request) for each in (plain, broken, beside)])
    ended = [[each.rest() for each in row] for row in listeners]
    assert all(isinstance(row[1][1], Failed) for row in ended)
    assert [row[0][0] for row in ended] == by_peft(served, forms["plain"], asked)
    assert [row[2][0] for row in ended] == by_peft(served, forms["few-layers"], asked)


@pytest.mark.ci
def test_what_is_detached_ends_its_answers_and_gives_its_memory_back(
    forms: dict[str, Path], attach: Attaching, shared: SharedBase
) -> None:
    (prompt,) = prompts(1)
    kept = attach(forms["plain"])
    gone = attach(forms["wide"])
    running = Listener(gone, GenerationRequest("tuned", prompt, 300))
    beside = Listener(kept, GenerationRequest("tuned", prompt, 60))
    running.first()
    stack = shared.engine.stack
    held = [weakref.ref(matrices.up) for matrices in stack.matrices.values()]
    ranks = stack.ranks
    del stack
    gone.close()
    ended = running.rest()[1]
    assert isinstance(ended, Finished)
    assert ended.reason == "cancelled"
    assert shared.engine.stack.ranks < ranks
    gc.collect()
    assert all(matrix() is None for matrix in held)
    with pytest.raises(Refusal, match="not in this process") as refused:
        gone.submit(GenerationRequest("tuned", prompt, 3), lambda _: None)
    assert refused.value.status == 404
    ended = beside.rest()[1]
    assert isinstance(ended, Finished)
    assert ended.reason != "cancelled"


REFUSED = {
    "more than LoRA": {**PLAIN, "use_dora": True},
    "exchanges all of": {**PLAIN, "modules_to_save": ["norm"]},
    "embed_tokens|peft does not load": {
        **PLAIN,
        "target_modules": ["q_proj", "embed_tokens"],
    },
    "does more than": {**PLAIN, "bias": "none", "lora_bias": True},
}


@pytest.mark.ci
@pytest.mark.parametrize("fact", REFUSED)
def test_what_is_more_than_lora_of_linear_layers_shares_nothing(
    fact: str, served: Served, shared: SharedBase, tmp_path: Path
) -> None:
    folder = write_adapter(served.base_folder, tmp_path / "it", 5, REFUSED[fact])
    with pytest.raises(ServingError, match=fact):
        shared.skeleton.read(folder)


def spoil_prompt(package: Path) -> None:
    write_text(package / "adapter" / "more.txt", "x")


def spoil_weights(package: Path) -> None:
    weights = package / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def spoil_verdict(package: Path) -> None:
    verdict = package / "verdict.json"
    text = verdict.read_text(encoding="utf-8")
    write_text(verdict, text.replace('"passed"', '"rejected"', 1))
    pack(package)


@pytest.mark.ci
@pytest.mark.parametrize("spoil", [spoil_prompt, spoil_weights, spoil_verdict])
def test_a_package_that_is_not_as_it_was_judged_leaves_nothing(
    spoil: Callable[[Path], None], served: Served, shared: SharedBase, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(served.package, package)
    order = ReleaseOrder(digest_of_package(package), package, "it")
    before = shared.engine.stack
    spoil(package)
    with pytest.raises(AssayError):
        shared.attach(order)
    assert shared.engine.stack is before


@pytest.mark.ci
def test_another_package_than_the_one_that_is_named_is_refused(
    served: Served, shared: SharedBase, tmp_path: Path
) -> None:
    make_tiny_package(served.base_folder, served.base, tmp_path / "other", seed=9)
    order = ReleaseOrder(digest_of_package(served.package), tmp_path / "other", "it")
    with pytest.raises(AssayError, match="is not package"):
        shared.attach(order)


def test_a_prompt_shares_nothing(served: Served) -> None:
    package = open_package(served.package, served.base)
    # Whatever it says: it is no weights.
    prompted = package.adapter.model_copy(update={"prompt": "Be brief."})
    with pytest.raises(ServingError, match="is a prompt"):
        check_weights(replace(package, adapter=prompted))


LAYERS = {"one": Layer(2, 3)}


def adapter_of(rank: int) -> dict[str, Matrices]:
    return {"one": Matrices(torch.ones(rank, 2), torch.ones(rank, 3))}


def test_an_adapter_keeps_its_ranks_whatever_comes_and_goes() -> None:
    stack = Stack.empty(LAYERS, "cpu")
    for number, rank in enumerate((3, 9, 8), 1):
        stack = stack.with_adapter(number, adapter_of(rank))
    assert stack.spans == {1: range(8), 2: range(8, 24), 3: range(24, 32)}
    holed = stack.without(2)
    assert holed.spans == {1: range(8), 3: range(24, 32)}
    # Ranks that are nobody's hold nothing.
    assert not holed.matrices["one"].up[8:24].any()
    filled = holed.with_adapter(4, adapter_of(8))
    assert filled.spans[4] == range(8, 16)
    # What was there before is as it was: rows may be computed by it meanwhile.
    assert stack.matrices["one"].up[8:17].all()


def test_an_adapter_that_is_not_there_is_no_other_one() -> None:
    stack = Stack.empty(LAYERS, "cpu").with_adapter(1, adapter_of(2))
    with pytest.raises(ValueError, match="adapter 2 is not there"):
        stack.span_of(2)
