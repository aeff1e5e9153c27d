"""What was not judged, or is not what was judged, is not opened."""

import os
import shutil
from pathlib import Path

import pytest

from core.errors import (
    AssayError,
    DamagedFile,
    ServingError,
    UnsafeAdapter,
    UnusableBaseModel,
)
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import Finalist, Finding, Rejection, Undecided
from registry.release.package_signature import digest_of_package
from serving.package import check_base, open_package, read_chat_template
from tests.support.running_engine import Served
from tests.support.tiny import make_tiny_package, pack


@pytest.fixture
def package(served: Served, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(served.package, tmp_path / "package"))


@pytest.fixture
def base_folder(served: Served, tmp_path: Path) -> Path:
    return Path(shutil.copytree(served.base_folder, tmp_path / "base"))


def test_a_registered_package_opens(served: Served, package: Path) -> None:
    (package / "MODEL_CARD.md").write_text("A model card is data.")
    pack(package)
    opened = open_package(package, served.base)
    assert opened.adapter.sha256 == opened.verdict.adapter.sha256
    assert opened.sha256 == digest_of_package(package)


@pytest.mark.parametrize("kind", [Rejection, Undecided])
def test_a_package_that_did_not_pass_is_refused_with_the_reason(
    served: Served, package: Path, kind: type[Rejection | Undecided]
) -> None:
    finding = Finding(
        rule="superior", outcome="rejected", text="chrf 14.0 is under the base's 15.0."
    )
    kind(gate="screen", findings=(finding,), policy_sha256="0" * 64).write(
        package / "verdict.json"
    )
    pack(package)
    with pytest.raises(ServingError, match=r"chrf 14\.0 is under the base's 15\.0"):
        open_package(package, served.base)


def test_a_pass_with_a_finding_that_did_not_pass_is_forged(
    served: Served, package: Path
) -> None:
    finalist = Finalist.read(package / "verdict.json")
    finding = Finding(rule="superior", outcome="rejected", text="no")
    finalist.model_copy(update={"findings": (finding,)}).write(package / "verdict.json")
    pack(package)
    with pytest.raises(ServingError, match="not every one of its findings"):
        open_package(package, served.base)


def test_the_verdict_on_another_adapter_is_refused(
    served: Served, package: Path
) -> None:
    finalist = Finalist.read(package / "verdict.json")
    other = finalist.adapter.model_copy(update={"sha256": "f" * 64})
    finalist.model_copy(update={"adapter": other}).write(package / "verdict.json")
    pack(package)
    with pytest.raises(ServingError, match="judges adapter ffffffffffff"):
        open_package(package, served.base)


@pytest.mark.parametrize(
    "name",
    [
        "adapter.json",
        "verdict.json",
        "package.json",
        "adapter/adapter_model.safetensors",
        "adapter/adapter_config.json",
    ],
)
def test_a_package_without_one_of_its_files_is_refused(
    served: Served, package: Path, name: str
) -> None:
    (package / name).unlink()
    with pytest.raises(DamagedFile, match=name):
        open_package(package, served.base)


@pytest.mark.parametrize("content", ["", "{}", '{"verdict": "passed"}', "[" * 100_000])
def test_a_verdict_that_is_none_is_no_pass(
    served: Served, package: Path, content: str
) -> None:
    (package / "verdict.json").write_text(content)
    pack(package)
    with pytest.raises(DamagedFile, match=r"verdict\.json"):
        open_package(package, served.base)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000])
def test_a_package_whose_digests_are_none_is_refused(
    served: Served, package: Path, content: str
) -> None:
    (package / "package.json").write_text(content)
    with pytest.raises(DamagedFile, match="package"):
        open_package(package, served.base)


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("verdict.json", "is not what was packed"),
        ("MODEL_CARD.md", "came in after packing"),
    ],
)
def test_a_file_that_changed_after_packing_is_refused(
    served: Served, package: Path, name: str, fact: str
) -> None:
    with (package / name).open("a") as file:
        file.write(" ")
    with pytest.raises(DamagedFile, match=f"{name} {fact}"):
        open_package(package, served.base)


@pytest.mark.parametrize("place", ["", "adapter"])
def test_code_beside_the_adapter_is_refused(
    served: Served, package: Path, place: str
) -> None:
    (package / place / "modeling_llama.py").write_text("print('gotcha')")
    pack(package)
    with pytest.raises(UnsafeAdapter, match=r"modeling_llama\.py"):
        open_package(package, served.base)


@pytest.mark.parametrize(
    "name",
    [
        *("adapter/adapter_model.bin", "pytorch_model.pt", "weights.pkl", "w.pickle"),
        *("hook.so", "setup.py", "adapter/x.PY", "package.zip", "run.sh", "no_kind"),
        *("tokenizer/tokenizer.py", "model.ckpt", "x.npy", "x.joblib", "a.h5"),
    ],
)
def test_a_file_of_a_kind_that_may_run_is_refused_before_anything_is_parsed(
    served: Served, package: Path, name: str
) -> None:
    path = package / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    # Neither the record nor the list of files is read before that.
    (package / "adapter.json").write_text("{")
    (package / "package.json").write_text("{")
    with pytest.raises(UnsafeAdapter, match=path.name):
        open_package(package, served.base)


@pytest.mark.parametrize(
    "name", ["adapter.json", "package.json", "more.json", "signature.json"]
)
def test_a_link_is_refused_before_it_is_followed(
    served: Served, package: Path, name: str
) -> None:
    (package / name).unlink(missing_ok=True)
    # Whoever opens it waits for ever.
    os.mkfifo(package.parent / "pipe")
    (package / name).symlink_to(package.parent / "pipe")
    with pytest.raises(UnsafeAdapter, match=f"{name} is a symbolic link"):
        open_package(package, served.base)


def test_a_pipe_is_refused_and_not_waited_for(served: Served, package: Path) -> None:
    os.mkfifo(package / "more.json")
    with pytest.raises(UnsafeAdapter, match=r"more\.json is no file"):
        open_package(package, served.base)


def test_weights_that_the_record_does_not_name_are_refused(
    served: Served, package: Path
) -> None:
    shutil.copyfile(
        package / "adapter/adapter_model.safetensors", package / "other.safetensors"
    )
    pack(package)
    with pytest.raises(UnsafeAdapter, match=r"other\.safetensors"):
        open_package(package, served.base)


@pytest.mark.parametrize("packed_again", [False, True])
def test_one_flipped_bit_is_refused(
    served: Served, package: Path, packed_again: bool
) -> None:
    path = package / "adapter/adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if packed_again:
        pack(package)
    with pytest.raises(DamagedFile, match="is not what was"):
        open_package(package, served.base)


def test_a_package_for_another_base_is_refused(served: Served, package: Path) -> None:
    with pytest.raises(UnsafeAdapter, match="own base model"):
        open_package(package, served.base.model_copy(update={"digest": "0" * 64}))


def test_a_package_that_does_not_exist_is_named(served: Served) -> None:
    with pytest.raises(ServingError, match="no package /nowhere"):
        open_package(Path("/nowhere"), served.base)


def test_a_base_with_its_recorded_files_is_accepted(
    served: Served, base_folder: Path
) -> None:
    (base_folder / "NOTICE.md").write_text("not loaded")
    check_base(base_folder, served.base)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_base_whose_bytes_changed_is_refused(
    served: Served, base_folder: Path, name: str
) -> None:
    (base_folder / name).write_bytes((base_folder / name).read_bytes() + b" ")
    with pytest.raises(DamagedFile, match=name):
        check_base(base_folder, served.base)


@pytest.mark.parametrize(
    "name",
    [
        "adapter_config.json",
        "model.safetensors.index.json",
        "modeling.py",
        "pytorch_model.bin",
    ],
)
def test_a_file_that_transformers_would_pick_up_is_refused(
    served: Served, base_folder: Path, name: str
) -> None:
    (base_folder / name).write_text("{}")
    with pytest.raises(DamagedFile, match="not in the manifest"):
        check_base(base_folder, served.base)


def test_a_manifest_that_was_edited_is_refused(
    served: Served, base_folder: Path
) -> None:
    files = {**served.base.files, "config.json": "0" * 64}
    with pytest.raises(DamagedFile, match="do not make its digest"):
        check_base(base_folder, served.base.model_copy(update={"files": files}))


def test_a_base_folder_that_does_not_exist_is_refused(
    served: Served, tmp_path: Path
) -> None:
    with pytest.raises(AssayError, match="nowhere"):
        check_base(tmp_path / "nowhere", served.base)


def test_the_chat_template_is_taken_from_wherever_it_has_the_recorded_bytes(
    served: Served, tmp_path: Path
) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ 'another' }}")
    template = read_chat_template(served.base, (tmp_path, served.base_folder))
    assert template is not None
    assert "im_start" in template
    with pytest.raises(UnusableBaseModel, match="Put it beside the manifest"):
        read_chat_template(served.base, (tmp_path,))


def test_completion_mode_has_no_template(served: Served) -> None:
    assert (
        read_chat_template(
            served.base.model_copy(update={"chat_template_sha256": None}),
            (served.base_folder,),
        )
        is None
    )


def test_two_packages_made_alike_have_one_digest(
    served: Served, tmp_path: Path
) -> None:
    make_tiny_package(
        served.base_folder,
        BaseModelManifest.read(served.base_manifest),
        tmp_path / "again",
    )
    assert (
        Adapter.read(tmp_path / "again" / "adapter.json").sha256
        == Adapter.read(served.package / "adapter.json").sha256
    )
