"""A base model is a manifest of digests; a folder that cannot be used is one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import AssayError, DamagedFile, UnusableBaseModel
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.stages.base_model import base_model
from pipelines.values.params import BaseModelParams
from tests.support.tiny import CHAT_TEMPLATE

PLAIN_TEMPLATE = "{% for turn in messages %}{{ turn.content }} {% endfor %}"


def asked(folder: Path, **changes: Any) -> BaseModelParams:
    plain = BaseModelParams(
        source="folder",
        id="mine",
        path=str(folder),
        digest=None,
        chat_template=None,
        completion_mode=False,
    )
    return plain.model_copy(update=changes)


@pytest.fixture
def own(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "own"))


def test_the_manifest_names_every_file_and_the_model_is_found_again_by_digest(
    own: Path, tmp_path: Path
) -> None:
    manifest, template = base_model(asked(own), tmp_path / "home")
    assert set(manifest.files) == {
        path.name
        for path in own.iterdir()
        if path.suffix in {".json", ".safetensors", ".jinja", ".txt"}
    }
    assert template == CHAT_TEMPLATE
    assert manifest.context_tokens == 512
    assert locate_base_model(manifest, tmp_path / "home").resolve() == own.resolve()


def test_the_digest_does_not_depend_on_where_the_folder_lies(
    own: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(own, tmp_path / "elsewhere")
    home = tmp_path / "home"
    assert (
        base_model(asked(own), home)[0].digest
        == base_model(asked(Path(moved)), home)[0].digest
    )


def test_weights_that_changed_since_are_not_given(own: Path, tmp_path: Path) -> None:
    manifest, _ = base_model(asked(own), tmp_path / "home")
    weights = own / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(
        DamagedFile, match=r"model\.safetensors is not the file that the manifest"
    ):
        locate_base_model(manifest, tmp_path / "home")
    with pytest.raises(DamagedFile, match=r"but base_model\.digest is"):
        base_model(asked(own, digest=manifest.digest), tmp_path / "home")


def test_a_template_of_ones_own_replaces_the_models(own: Path, tmp_path: Path) -> None:
    manifest, template = base_model(
        asked(own, chat_template=PLAIN_TEMPLATE), tmp_path / "home"
    )
    assert template == PLAIN_TEMPLATE
    assert (
        manifest.chat_template_sha256
        != base_model(asked(own), tmp_path / "home")[0].chat_template_sha256
    )
    assert base_model(asked(own, completion_mode=True), tmp_path / "home")[1] is None


def drop(*names: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)
        settings = folder / "tokenizer_config.json"
        if settings.is_file() and "chat_template.jinja" in names:
            kept = {
                key: entry
                for key, entry in json.loads(settings.read_text()).items()
                if key != "chat_template"
            }
            settings.write_text(json.dumps(kept))

    return edit


def write(name: str, content: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).write_text(content, errors="surrogateescape")

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (drop("tokenizer_config.json"), "has no tokenizer_config.json"),
        (drop("config.json"), "has no config.json"),
        (drop("model.safetensors"), r"has no \*.safetensors. Convert the weights"),
        (
            drop("chat_template.jinja"),
            (
                "has no chat template. Give one with --chat-template FILE, or train without with "
                "--completion-mode"
            ),
        ),
        (write("model.safetensors", "torn"), "is not a whole safetensors file"),
        (write("modeling.py", "print()"), "holds modeling.py, which could run code"),
        (write("pytorch_model.bin", ""), "holds pytorch_model.bin"),
        (write("adapter_config.json", "{}"), "holds adapter_config.json"),
        (write("config.json", "{"), "cannot be read as JSON"),
        (
            write("config.json", '{"quantization_config": {"quant_method": "gptq"}}'),
            "weights are quantised, which cannot be trained on",
        ),
        (
            write(
                "config.json",
                '{"model_type": "llama", "max_position_embeddings": 1e999}',
            ),
            "describes no model that transformers loads .*max_position_embeddings",
        ),
        (
            write(
                "config.json",
                '{"model_type": "llama", "max_position_embeddings": -1}',
            ),
            "says that max_position_embeddings is -1",
        ),
        (
            write("config.json", '{"model_type": "t5"}'),
            "is a model of type t5, which does not continue a text",
        ),
        (
            write("config.json", '{"model_type": "no-such-model"}'),
            "describes no model that transformers loads",
        ),
        (write("chat_template.jinja", "\udcff"), "that is no UTF-8 or no JSON"),
        (
            write("config.json", '{"auto_map": {"AutoModel": "evil.py"}}'),
            "points at code of its own",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(
    own: Path, tmp_path: Path, edit: Callable[[Path], None], sentence: str
) -> None:
    edit(own)
    with pytest.raises(UnusableBaseModel, match=sentence) as raised:
        base_model(asked(own), tmp_path / "home")
    assert "\n" not in str(raised.value)


def test_no_folder_at_all_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnusableBaseModel, match="There is no folder"):
        base_model(asked(tmp_path / "absent"), tmp_path / "home")


def test_an_edited_template_beside_the_manifest_is_damage(
    own: Path, tmp_path: Path
) -> None:
    manifest, template = base_model(asked(own), tmp_path / "home")
    manifest.write(tmp_path / "out/manifest.json")
    (tmp_path / "out/chat_template.jinja").write_text(template or "")
    assert read_base_model(tmp_path / "out") == (manifest, template)
    (tmp_path / "out/chat_template.jinja").write_text("other")
    with pytest.raises(
        AssayError, match="is not the chat template that the manifest records"
    ):
        read_base_model(tmp_path / "out")


def test_of_templates_by_name_in_an_object_the_default_is_taken(
    own: Path, tmp_path: Path
) -> None:
    give_templates(own, {"default": CHAT_TEMPLATE, "rag": PLAIN_TEMPLATE})
    assert base_model(asked(own), tmp_path / "home")[1] == CHAT_TEMPLATE
    give_templates(own, {"rag": PLAIN_TEMPLATE, "tools": PLAIN_TEMPLATE})
    with pytest.raises(
        UnusableBaseModel, match=r"several chat templates \(rag, tools\) and no default"
    ):
        base_model(asked(own), tmp_path / "home")


def test_additional_templates_alone_are_named_and_none_is_guessed(
    own: Path, tmp_path: Path
) -> None:
    additional = own / "additional_chat_templates"
    additional.mkdir()
    (additional / "rag.jinja").write_text(PLAIN_TEMPLATE)
    assert base_model(asked(own), tmp_path / "home")[1] == CHAT_TEMPLATE
    drop("chat_template.jinja")(own)
    with pytest.raises(
        UnusableBaseModel,
        match=r"chat templates \(rag\), and none is the default. Give one with --chat-template",
    ):
        base_model(asked(own), tmp_path / "home")
    given = asked(own, chat_template=CHAT_TEMPLATE)
    assert base_model(given, tmp_path / "home")[1] == CHAT_TEMPLATE
    untaught = asked(own, completion_mode=True)
    assert base_model(untaught, tmp_path / "home")[1] is None


def test_the_same_weights_under_another_name_count_once_and_are_hashed(
    own: Path, tmp_path: Path
) -> None:
    alone, _ = base_model(asked(own), tmp_path / "home")
    shutil.copyfile(own / "model.safetensors", own / "consolidated.safetensors")
    doubled, _ = base_model(asked(own), tmp_path / "home")
    assert doubled.parameters == alone.parameters
    assert "consolidated.safetensors" in doubled.files
    assert doubled.digest != alone.digest


def test_weights_in_several_files_are_counted_as_the_index_lists_them(
    own: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    whole, _ = base_model(asked(own), tmp_path / "home")
    model = AutoModelForCausalLM.from_pretrained(str(own))
    (own / "model.safetensors").unlink()
    model.save_pretrained(str(own), max_shard_size="20KB")
    parts = sorted(own.glob("model-*.safetensors"))
    assert len(parts) > 1
    shutil.copyfile(parts[0], own / "consolidated.safetensors")
    manifest, _ = base_model(asked(own), tmp_path / "home")
    assert manifest.parameters == whole.parameters
    parts[-1].unlink()
    with pytest.raises(
        UnusableBaseModel, match=rf"lists {parts[-1].name}, and the folder has none"
    ):
        base_model(asked(own), tmp_path / "home")


def test_weights_under_a_name_that_nothing_loads_are_refused(
    own: Path, tmp_path: Path
) -> None:
    (own / "model.safetensors").rename(own / "consolidated.safetensors")
    with pytest.raises(UnusableBaseModel, match=r"has neither model\.safetensors nor"):
        base_model(asked(own), tmp_path / "home")
    (own / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(UnusableBaseModel, match=r"lists no files"):
        base_model(asked(own), tmp_path / "home")
    elsewhere = {"weight_map": {"lm_head.weight": "../own/consolidated.safetensors"}}
    (own / "model.safetensors.index.json").write_text(json.dumps(elsewhere))
    with pytest.raises(UnusableBaseModel, match=r"lists \.\./own/consolidated"):
        base_model(asked(own), tmp_path / "home")


def give_templates(folder: Path, templates: dict[str, str]) -> None:
    drop("chat_template.jinja")(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["chat_template"] = templates
    path.write_text(json.dumps(settings))
