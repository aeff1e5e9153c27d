"""What is loaded is what was scored.

It gives the known answers, and another configuration is refused.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from core.errors import DamagedFile, ServingError
from core.settings import Settings
from pipelines.engines import Engine, Event, Finished, GenerationRequest, Piece
from pipelines.values.verdict import Finalist
from registry.release.known_answers import KnownAnswer
from serving.load import (
    DEFAULT_MAX_TOKENS,
    EngineConfig,
    engine_wanted,
    load_engine,
)
from serving.package import open_package
from tests.support.running_engine import Served
from tests.support.tiny import MAX_TOKENS, pack
from tests.support.waiting import SECONDS_AT_MOST


def answer(engine: Engine, known: KnownAnswer) -> str:
    """What `tuned` answers, greedily."""
    events: Queue[Event] = Queue()
    engine.submit(
        GenerationRequest(
            "tuned", tuple(engine.prompt_ids(known.messages, "tuned")), known.max_tokens
        ),
        events.put,
    )
    text = ""
    while isinstance(event := events.get(timeout=SECONDS_AT_MOST), Piece):
        text += event.text
    assert isinstance(event, Finished)
    return text


def as_scored(served: Served, tmp_path: Path, **changes: object) -> Served:
    """The package as if another configuration had been scored."""
    package = Path(shutil.copytree(served.package, tmp_path / "package"))
    finalist = Finalist.read(package / "verdict.json")
    finalist.model_copy(
        update={"spec": finalist.spec.model_copy(update=changes)}
    ).write(package / "verdict.json")
    pack(package)
    return replace(served, package=package)


def test_the_loaded_engine_gives_the_scored_answers(
    served: Served, engine: Engine
) -> None:
    known = open_package(served.package, served.base).known_answers
    assert len({each.text for each in known}) > 1
    assert [answer(engine, each) for each in known] == [each.text for each in known]


def test_a_base_that_changes_on_the_disk_later_does_not_change_the_answers(
    served: Served, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(served.config.base_folder, tmp_path / "base"))
    loaded = load_engine(replace(served.config, base_folder=folder))
    known = open_package(served.package, served.base).known_answers
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    # In place, as one who may write the file would: the loader may have mapped it.
    with weights.open("r+b") as stream:
        stream.seek(size // 4)
        stream.write(b"\x3f" * (size // 2))
    try:
        answers = [answer(loaded, each) for each in known]
    finally:
        loaded.close()
    assert answers == [each.text for each in known]


def during_each_load(
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[], None],
    after: Callable[[], None],
) -> None:
    """Have somebody act while transformers reads the weights."""
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained

    def load_beside_others(*positional: Any, **named: Any) -> Any:
        before()
        try:
            return load(*positional, **named)
        finally:
            after()

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_beside_others)


@pytest.mark.parametrize(
    "name", ["base/model.safetensors", "package/adapter/adapter_model.safetensors"]
)
def test_weights_that_are_exchanged_for_the_load_alone_are_not_served(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = copied(served, tmp_path)
    weights, aside = tmp_path / name, tmp_path / "aside"

    def exchange() -> None:
        weights.rename(aside)
        weights.write_bytes(aside.read_bytes()[:-4] + b"\x3f" * 4)

    def put_back() -> None:
        aside.rename(weights)

    during_each_load(monkeypatch, exchange, put_back)
    with pytest.raises(DamagedFile, match="changed while they were loaded"):
        load_engine(config)


def test_a_backup_that_links_the_weights_while_they_are_loaded_stops_no_load(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copied(served, tmp_path)
    weights, linked = tmp_path / "base/model.safetensors", tmp_path / "linked"

    def link_once() -> None:
        if not linked.exists():
            linked.hardlink_to(weights)

    during_each_load(monkeypatch, link_once, lambda: None)
    load_engine(config).close()
    assert linked.samefile(weights)


def copied(served: Served, into: Path) -> EngineConfig:
    """What is served, in folders that a test may change."""
    base = shutil.copytree(served.config.base_folder, into / "base")
    package = shutil.copytree(served.package, into / "package")
    return replace(served.config, base_folder=Path(base), package=Path(package))


def test_what_is_loaded_bears_the_fingerprint_that_was_scored(
    served: Served, engine: Engine
) -> None:
    assert (
        engine.specs["tuned"] == open_package(served.package, served.base).verdict.spec
    )
    assert engine.specs["tiny"] == engine.specs["tuned"].with_adapter(None)


def test_a_package_says_how_it_is_served_and_a_base_alone_takes_the_default(
    served: Served,
) -> None:
    engine = load_engine(replace(served.config, package=None, default_max_tokens=None))
    assert (
        engine.specs["tiny"].default_max_tokens,
        engine.specs["tiny"].precision,
    ) == (DEFAULT_MAX_TOKENS, "float32")
    engine.close()
    tuned = load_engine(replace(served.config, precision=None, default_max_tokens=None))
    assert tuned.specs["tuned"].default_max_tokens == MAX_TOKENS
    tuned.close()


def test_another_precision_or_limit_than_the_scored_one_is_refused_with_both(
    served: Served,
) -> None:
    with pytest.raises(
        ServingError,
        match=r"precision is bfloat16, not float32.*have this configuration screened by itself",
    ):
        load_engine(replace(served.config, precision="bfloat16"))
    with pytest.raises(
        ServingError, match=f"default_max_tokens is 7, not {MAX_TOKENS}"
    ):
        load_engine(replace(served.config, default_max_tokens=7))
    with pytest.raises(ServingError, match="default_max_tokens is 0"):
        load_engine(replace(served.config, default_max_tokens=0))


@pytest.mark.parametrize(
    ("field", "setting"),
    [
        ("engine_version", "4.0.0"),
        ("adapter_sha256", "f" * 64),
        ("adapter_sha256", None),
        ("base_digest", "f" * 64),
        ("chat_template_sha256", None),
    ],
)
def test_an_adapter_that_was_scored_in_another_configuration_is_refused(
    served: Served, tmp_path: Path, field: str, setting: str | None
) -> None:
    with pytest.raises(ServingError, match=rf"{field} is \w[^;]*, not {setting}"):
        load_engine(as_scored(served, tmp_path, **{field: setting}).config)


def test_an_engine_that_does_not_exist_is_refused_by_name() -> None:
    assert engine_wanted(Settings(engine="")) == "transformers"
    assert engine_wanted(Settings(engine="openvino")) == "openvino"
    assert engine_wanted(Settings(engine="vllm")) == "vllm"
    with pytest.raises(ServingError, match="ASSAY_ENGINE is 'onnx'"):
        engine_wanted(Settings(engine="onnx"))


def test_a_precision_that_the_engine_does_not_know_is_refused(
    served: Served, tmp_path: Path
) -> None:
    with pytest.raises(
        ServingError, match="does not serve int4, only float32, bfloat16"
    ):
        load_engine(as_scored(served, tmp_path, precision="int4").config)


def test_a_package_without_known_answers_is_not_served(
    served: Served, tmp_path: Path
) -> None:
    package = Path(shutil.copytree(served.package, tmp_path / "package"))
    (package / "known_answers.jsonl").write_text("")
    pack(package)
    with pytest.raises(DamagedFile, match="nothing could be probed"):
        open_package(package, served.base)
