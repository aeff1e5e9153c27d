"""Training by its invariants, with real trl and peft on a two-layer model."""

import json
from pathlib import Path

import pytest

from core.errors import (
    NotEnoughResources,
    ParameterError,
    TrainingDidNothing,
    UnusableRow,
)
from core.files import folder_digests
from core.value import FileDigest
from pipelines.models.adapter_files import check_adapter
from pipelines.models.language_model import generate, load_language_model
from pipelines.models.resources import estimate_needs
from pipelines.stages.fine_tune import _order_for_training
from pipelines.values.base_manifest import BaseModelManifest
from tests.support.tiny import CHAT_TEMPLATE
from tests.support.workshop import ROWS, Workshop, params, row

LEARNS_BY_HEART = {"learning_rate": 0.02, "epochs": 200, "batch_size": 8}


@pytest.fixture
def workshop(tiny: Path, manifest: BaseModelManifest, tmp_path: Path) -> Workshop:
    return Workshop(base=manifest, base_folder=tiny, root=tmp_path)


def test_fine_tuning_moves_the_adapter_and_leaves_the_base_alone(
    workshop: Workshop,
) -> None:
    before = folder_digests(workshop.base_folder)
    adapter = workshop.run(params())
    assert folder_digests(workshop.base_folder) == before
    assert adapter.moved > 0
    assert adapter.steps == 6
    assert (
        min(look.loss for look in adapter.dev_losses[1:]) < adapter.dev_losses[0].loss
    )
    assert [look.step for look in adapter.dev_losses] == [0, 2, 4, 6]
    assert adapter.real_tokens > 0
    check_adapter(Path(adapter.folder), adapter, workshop.base)
    steps = [
        json.loads(line)["step"]
        for line in (workshop.root / "one/out/progress.jsonl").read_text().splitlines()
    ]
    assert steps == sorted(steps)
    assert set(steps) >= {1, 2, 3, 4, 5, 6}


def test_after_training_answers_are_right_and_end_by_themselves(
    workshop: Workshop,
) -> None:
    adapter = workshop.run(params(max_steps=80, evaluate_every=40, **LEARNS_BY_HEART))
    language = load_language_model(
        workshop.base,
        workshop.base_folder,
        CHAT_TEMPLATE,
        "float32",
        Path(adapter.folder),
    )
    distinct = ROWS[:7]
    prompts = [language.encoder.prompt_ids(row.messages) for row in distinct]
    answers = generate(language, prompts, max_new_tokens=20, batch_size=len(prompts))
    texts = [language.encoder.decode(answer.ids) for answer in answers]
    assert texts == [row.completion for row in distinct]
    assert all(answer.ended for answer in answers)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(
    workshop: Workshop,
) -> None:
    first, second = (
        workshop.run(params(), name="one"),
        workshop.run(params(), name="two"),
    )
    assert first.sha256 == second.sha256
    modules = json.loads((Path(first.folder) / "adapter_config.json").read_text())[
        "target_modules"
    ]
    assert modules == sorted(modules), "a set's order is the same in this process only"
    assert workshop.run(params(seed=1), name="three").sha256 != first.sha256


def test_a_training_that_was_cut_short_resumes_and_equals_the_uninterrupted_one(
    workshop: Workshop,
) -> None:
    whole = workshop.run(params(), name="whole")
    workshop.run(params(), name="cut")
    scratch = workshop.root / "cut/scratch"
    for path in (
        scratch / "checkpoint-6"
    ).iterdir():  # as if it had been killed after step 5
        path.unlink()
    resumed = workshop.run(params(), name="cut")
    assert resumed.resumed_from == (4,)
    assert resumed.steps == 6
    assert [look.loss for look in resumed.dev_losses] == pytest.approx(
        [look.loss for look in whole.dev_losses], rel=1e-5
    )
    assert resumed.sha256 == whole.sha256


def test_the_weights_of_the_best_look_are_kept_and_training_stops_early(
    workshop: Workshop,
) -> None:
    # What is learned is wrong for every dev row: in thirty looks at least one is worse than the
    # look before,
    # whatever processor counts.
    taught = [row(number, f"say {number % 7}", "1" * 12) for number in range(24)]
    wanted = [row(number, f"say {number}", "z" * 12) for number in range(7)]
    settings = params(
        max_steps=60, learning_rate=0.05, evaluate_every=2, patience=1, warmup_share=0.0
    )
    adapter = workshop.run(settings, taught, dev=wanted)
    best = min(adapter.dev_losses[1:], key=lambda look: look.loss)
    assert adapter.best_step == best.step
    assert adapter.steps == best.step + 2 < 60
    kept, of_best, of_last = (
        FileDigest.of(
            workshop.root / "one" / folder / "adapter_model.safetensors"
        ).sha256
        for folder in (
            "out/adapter",
            f"scratch/checkpoint-{best.step}",
            f"scratch/checkpoint-{adapter.steps}",
        )
    )
    assert kept == of_best != of_last


def test_a_row_that_does_not_fit_is_named_and_nothing_is_cut(
    workshop: Workshop,
) -> None:
    with pytest.raises(
        UnusableRow, match=r"Row 99 \(0{14}63\) has \d+ tokens, over the 512 that fit"
    ):
        workshop.run(params(), [*ROWS, row(99, "long", "x" * 600)])


def test_modules_that_the_base_does_not_have_are_named_in_one_line(
    workshop: Workshop,
) -> None:
    asked = params()
    asked = asked.model_copy(
        update={"lora": asked.lora.model_copy(update={"target_modules": ("nope",)})}
    )
    with pytest.raises(
        ParameterError,
        match=r"^Training cannot begin with these parameters \(.*nope[^\n]*$",
    ):
        workshop.run(asked, ROWS)


def test_a_row_without_completion_tokens_is_named(workshop: Workshop) -> None:
    with pytest.raises(
        UnusableRow,
        match=r"Row 98 .* has no completion tokens before its end-of-turn token",
    ):
        workshop.run(params(), [*ROWS, row(98, "empty", "")])


def test_a_batch_that_memory_cannot_hold_is_refused_before_training(
    workshop: Workshop,
) -> None:
    crowd = [row(number, f"{number} {'p' * 300}", "c" * 100) for number in range(3000)]
    with pytest.raises(
        NotEnoughResources,
        match=r"Training needs about \d+\.\d GB of memory and|Training needs about",
    ):
        workshop.run(params(batch_size=3000), crowd)


def test_beside_a_gpu_the_machine_needs_room_for_libraries_and_weights_alone(
    manifest: BaseModelManifest,
) -> None:
    large = manifest.model_copy(update={"parameters": 7_000_000_000})
    needed = estimate_needs(large, params(batch_size=16), 512, 10_000)
    beside = needed.beside_a_gpu(large)
    assert 28e9 < beside.memory < 30e9 < needed.memory
    assert beside.disk == needed.disk


def test_a_diverged_training_makes_no_adapter(workshop: Workshop) -> None:
    wild = params(
        learning_rate=0.999,
        max_steps=60,
        patience=60,
        evaluate_every=60,
        warmup_share=0.0,
    )
    broken = wild.model_copy(
        update={"lora": wild.lora.model_copy(update={"alpha": 1e30})}
    )
    with pytest.raises(TrainingDidNothing, match="did not learn"):
        workshop.run(broken)
    assert not (workshop.root / "one/out/adapter").exists()


@pytest.mark.parametrize(
    ("rows", "batch", "steps"), [(24, 4, 6), (25, 4, 20), (3, 8, 2), (1, 2, 3)]
)
def test_the_order_of_training_is_fixed_by_the_seed_and_favours_no_row(
    rows: int, batch: int, steps: int
) -> None:
    made = [{"input_ids": [number] * (number % 7 + 1)} for number in range(rows)]
    order = _order_for_training(made, params(batch_size=batch).train, steps)
    assert len(order) == steps * batch
    assert order == _order_for_training(made, params(batch_size=batch).train, steps)
    seen = [sum(row is each for each in order) for row in made]
    assert max(seen) - min(seen) <= 2
    assert (
        order
        != _order_for_training(made, params(batch_size=batch, seed=5).train, steps)
        or rows < 4
    )
