"""Training continues from the newest whole checkpoint and names those that are not.

It ends as if it had not been interrupted.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.models.checkpoints import DIGESTS, find_fault, find_resume_point, seal
from pipelines.stages.fine_tune import _read_steps, _read_stored_loss
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter
from tests.support.workshop import Workshop, params

FILES = (
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    DIGESTS,
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "tokenizer.json",
    "tokenizer_config.json",
    "trainer_state.json",
    "training_args.bin",
)
STEPS = 8
DROPOUT = 0.1
"""Where the generator of random numbers goes on matters as well."""
Damage = Callable[[Path], object]


def flip(path: Path) -> None:
    """One bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums come in the same order, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(
    tiny: Path, manifest: BaseModelManifest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workshop, Adapter]:
    """An uninterrupted training of eight steps, with its checkpoints of steps 4, 6 and 8."""
    workshop = Workshop(
        base=manifest, base_folder=tiny, root=tmp_path_factory.mktemp("trained")
    )
    return workshop, workshop.run(
        params(max_steps=STEPS, dropout=DROPOUT), name="whole"
    )


@pytest.fixture
def scratch(trained: tuple[Workshop, Adapter], tmp_path: Path) -> Path:
    """A copy of its checkpoints."""
    return shutil.copytree(
        trained[0].root / "whole/scratch", tmp_path / "again/scratch"
    )


@pytest.fixture
def again(trained: tuple[Workshop, Adapter], scratch: Path, tmp_path: Path) -> Workshop:
    """The same training once more, as if a kill had ended it before it put the adapter down."""
    shutil.rmtree(scratch / f"checkpoint-{STEPS}")
    return Workshop(
        base=trained[0].base, base_folder=trained[0].base_folder, root=tmp_path
    )


def training_of(scratch: Path) -> str:
    """What the checkpoints say that they belong to."""
    return str(json.loads((scratch / "checkpoint-6" / DIGESTS).read_text())["training"])


def test_the_files_of_a_checkpoint_are_those_that_the_tests_damage(
    scratch: Path,
) -> None:
    assert sorted(path.name for path in scratch.iterdir() if path.is_dir()) == [
        "checkpoint-4",
        "checkpoint-6",
        "checkpoint-8",
    ]
    assert sorted(path.name for path in (scratch / "checkpoint-8").iterdir()) == sorted(
        FILES
    )
    assert (
        find_resume_point(scratch, training_of(scratch)).folder
        == scratch / "checkpoint-8"
    )


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, cut, empty, Path.unlink])
def test_a_checkpoint_with_a_damaged_file_is_refused_by_name_and_the_one_before_is_taken(
    scratch: Path, name: str, damage: Damage
) -> None:
    training = training_of(scratch)
    best_is_before(scratch, training)
    damage(scratch / "checkpoint-8" / name)
    found = find_resume_point(scratch, training)
    assert found.folder == scratch / "checkpoint-6"
    assert [each.name for each in found.refused] == ["checkpoint-8"]
    assert name in found.refused[0].reason or name == DIGESTS
    assert str(found).endswith("Training continues from checkpoint-6.")
    assert not (scratch / "checkpoint-8").exists()
    assert find_resume_point(scratch, training).refused == ()


def a_file_more(folder: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"more")


def a_link(folder: Path) -> None:
    shutil.move(folder / "optimizer.pt", folder.parent / "optimizer.pt")
    (folder / "optimizer.pt").symlink_to(folder.parent / "optimizer.pt")


def a_link_to_another(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.parent / "checkpoint-6")


def a_file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"")


def of_another_training(folder: Path) -> None:
    seal(folder, "another")


def digests_of_nothing(folder: Path) -> None:
    (folder / DIGESTS).write_text(
        json.dumps({"training": training_of(folder.parent), "files": {}})
    )


@pytest.mark.parametrize(
    "damage",
    [
        a_file_more,
        a_link,
        a_link_to_another,
        a_file_instead,
        of_another_training,
        digests_of_nothing,
    ],
)
def test_a_checkpoint_that_is_not_what_was_written_is_refused(
    scratch: Path, damage: Damage
) -> None:
    training = training_of(scratch)
    best_is_before(scratch, training)
    damage(scratch / "checkpoint-8")
    found = find_resume_point(scratch, training)
    assert (found.step, [each.name for each in found.refused]) == (6, ["checkpoint-8"])
    assert not (scratch / "checkpoint-8").exists()
    assert find_fault(scratch / "checkpoint-6", training) is None


def test_a_checkpoint_without_that_of_the_best_look_is_refused(scratch: Path) -> None:
    training = training_of(scratch)
    best_is_before(scratch, training)
    flip(scratch / "checkpoint-4/adapter_model.safetensors")
    found = find_resume_point(scratch, training)
    assert found.folder is None
    assert (
        found.refused[0].reason
        == "it needs checkpoint-4: adapter_model.safetensors is not what was written"
    )
    assert str(found).endswith("Training continues from its start.")


def test_a_folder_that_is_no_checkpoint_is_left_alone(scratch: Path) -> None:
    (scratch / "checkpoint-mine").mkdir()
    assert (
        find_resume_point(scratch, training_of(scratch)).folder
        == scratch / "checkpoint-8"
    )
    assert (scratch / "checkpoint-mine").is_dir()


@pytest.mark.parametrize(
    ("name", "damage"), [("optimizer.pt", cut), ("scheduler.pt", Path.unlink)]
)
def test_a_training_with_a_damaged_checkpoint_ends_as_the_uninterrupted_one(
    trained: tuple[Workshop, Adapter],
    again: Workshop,
    name: str,
    damage: Damage,
    capfd: pytest.CaptureFixture[str],
) -> None:
    damage(again.root / "again/scratch/checkpoint-6" / name)
    resumed = again.run(params(max_steps=STEPS, dropout=DROPOUT), name="again")
    assert resumed.resumed_from == (4,)
    line = (
        f"checkpoint-6 is not used ({name} is not what was written). Training continues from "
        "checkpoint-4."
    )
    assert line in capfd.readouterr().err.splitlines()
    assert refusals(again) == [
        (4, [f"checkpoint-6 is not used ({name} is not what was written)"])
    ]
    assert same(resumed, trained[1])


def test_checkpoints_from_before_digests_are_not_trusted_and_training_begins_again(
    trained: tuple[Workshop, Adapter],
    again: Workshop,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for folder in (again.root / "again/scratch").glob("checkpoint-*"):
        (folder / DIGESTS).unlink()
    restarted = again.run(params(max_steps=STEPS, dropout=DROPOUT), name="again")
    assert restarted.resumed_from == (0,)
    assert (
        "checkpoint-6 is not used (it was not written to its end); checkpoint-4"
        in capfd.readouterr().err
    )
    assert same(restarted, trained[1])


def test_a_training_whose_home_was_moved_ends_with_the_weights_of_its_best_look(
    trained: tuple[Workshop, Adapter], scratch: Path, tmp_path: Path
) -> None:
    """A checkpoint holds the absolute path of the best one."""
    best_is_before(scratch, training_of(scratch), "/nowhere/checkpoint-4")
    moved = Workshop(
        base=trained[0].base, base_folder=trained[0].base_folder, root=tmp_path
    )
    resumed = moved.run(params(max_steps=STEPS, dropout=DROPOUT), name="again")
    assert (resumed.resumed_from, resumed.best_step) == ((STEPS,), 4)
    found, best = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (Path(resumed.folder), scratch / "checkpoint-4")
    )
    assert found.keys() == best.keys()
    assert all(torch.equal(found[name], best[name]) for name in best)


DAMAGED = (
    "",
    "NaN",
    "5.0",
    '{"loss": 1.0, "training": "x", "sha256": "0"}',
    "[]",
    "{}",
    '["4"]',
    "[true]",
)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_first_dev_loss_is_not_taken(scratch: Path, text: str) -> None:
    training, kept = training_of(scratch), scratch / "first_dev_loss.json"
    assert _read_stored_loss(kept, training) is not None
    assert _read_stored_loss(kept, "another") is None
    kept.write_text(text)
    assert _read_stored_loss(kept, training) is None


@pytest.mark.parametrize("text", [text for text in DAMAGED if text != "[]"])
def test_a_damaged_list_of_resumptions_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "resumed.json").write_text("[4, 6]")
    assert _read_steps(tmp_path / "resumed.json") == (4, 6)
    (tmp_path / "resumed.json").write_text(text)
    assert _read_steps(tmp_path / "resumed.json") == ()


def best_is_before(scratch: Path, training: str, best: str | None = None) -> None:
    """As where the look at step 4 was the best one."""
    for step in (6, 8):
        state = scratch / f"checkpoint-{step}" / "trainer_state.json"
        document = {
            **json.loads(state.read_text()),
            "best_global_step": 4,
            "best_model_checkpoint": best,
        }
        state.write_text(json.dumps(document))
        seal(state.parent, training)


def refusals(workshop: Workshop) -> list[tuple[int, list[str]]]:
    """What `progress.jsonl` says of refused checkpoints."""
    points = map(
        json.loads,
        (workshop.root / "again/out/progress.jsonl").read_text().splitlines(),
    )
    return [(point["step"], point["refused"]) for point in points if "refused" in point]


def same(resumed: Adapter, whole: Adapter) -> bool:
    """The same weights, and the same course."""
    return (resumed.sha256, resumed.dev_losses, resumed.best_step) == (
        whole.sha256,
        whole.dev_losses,
        whole.best_step,
    )
