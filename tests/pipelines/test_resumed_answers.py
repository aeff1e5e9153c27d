"""An evaluation that was killed goes on where it stopped, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.models.answers import Identity, Places, answer
from pipelines.models.asked_rows import Sampling
from pipelines.models.journal import Journal
from pipelines.models.language_model import LanguageModel, load_language_model
from pipelines.models.resumed import Resumed
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import Message, Prompt
from pipelines.values.params import GenerationParams
from tests.support.tiny import CHAT_TEMPLATE
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
PARAMS = GenerationParams(max_new_tokens=4, batch_size=2, precision="float32", seed=0)
DRAWN = PARAMS.model_copy(update={"temperature": 0.9, "samples": 2})
FILES = ("base.answers.jsonl", "base.losses.jsonl", "base.json")


@pytest.fixture(scope="module")
def language(tiny: Path, manifest: BaseModelManifest) -> LanguageModel:
    return load_language_model(manifest, tiny, CHAT_TEMPLATE, "float32")


def prompts(count: int = 7) -> list[Prompt]:
    # Of different lengths, so that batches are not in the order of the prompts.
    return [
        Prompt(
            id=f"prompt-{number}",
            messages=(Message(role="user", content="ask " * (1 + number * 3 % 7)),),
            references=("yes", f"no {number}"),
            group="g",
        )
        for number in range(count)
    ]


class Evaluation:
    """The same prompts to the same base, as often as a test likes."""

    def __init__(
        self, language: LanguageModel, manifest: BaseModelManifest, folder: Path
    ) -> None:
        self.language = language
        self.identity = Identity(system="base", base=manifest)
        self.folder = folder
        self.kept = folder / "kept"

    def answer(self, into: str, params: GenerationParams = PARAMS) -> list[bytes]:
        out = self.folder / into
        answer(self.identity, self.language, prompts(), params, Places(out, self.kept))
        drawn = ("base.samples.jsonl",) if params.sampled_as is not None else ()
        # The record names its files by their paths, which differ here.
        files = [(out / name).read_bytes() for name in (*FILES, *drawn)]
        return [each.replace(str(out).encode(), b"") for each in files]


@pytest.fixture
def evaluation(
    language: LanguageModel, manifest: BaseModelManifest, tmp_path: Path
) -> Evaluation:
    return Evaluation(language, manifest, tmp_path)


def test_whatever_was_on_the_disk_the_bytes_are_the_same(
    evaluation: Evaluation,
) -> None:
    whole = evaluation.answer("whole")
    files = [evaluation.kept / name for name in ("base.answers", "base.losses")]
    contents = [path.read_bytes() for path in files]
    for number, path in enumerate(files):
        # At a line's end, within one, before the header's end, and with nothing there.
        length = len(contents[number])
        for cut in (0, 10, length // 3, length // 2, length - 1):
            path.write_bytes(contents[number][:cut])
            assert evaluation.answer(f"again-{number}-{cut}") == whole
            assert path.stat().st_size >= length


def test_what_is_kept_is_not_computed_again(evaluation: Evaluation) -> None:
    whole = evaluation.answer("whole")
    # Without weights nothing could be.
    evaluation.language = replace(evaluation.language, model=None)
    assert evaluation.answer("again") == whole


def test_what_was_drawn_before_a_kill_is_drawn_no_other_way_after_it(
    evaluation: Evaluation,
) -> None:
    whole = evaluation.answer("whole", DRAWN)
    for number in range(2):
        path = evaluation.kept / f"base.sample-{number}"
        content = path.read_bytes()
        for cut in (0, len(content) // 2):
            path.write_bytes(content[:cut])
            assert evaluation.answer(f"again-{number}-{cut}", DRAWN) == whole
    evaluation.language = replace(evaluation.language, model=None)
    assert evaluation.answer("last", DRAWN) == whole


def test_other_questions_are_not_asked_again_either(
    language: LanguageModel, tmp_path: Path
) -> None:
    """Probes, names, benchmarks: whatever a system is asked beside the held-out prompts."""
    encoder = language.encoder
    asked = [encoder.prompt_ids(prompt.messages) for prompt in prompts()]
    rows = [(ids, ids[:3]) for ids in asked]
    whole = Resumed(language, "adapter", "weights", tmp_path)

    def everything(resumed: Resumed) -> tuple[object, ...]:
        drawn = Sampling(temperature=0.9, seed=3)
        return (
            *(
                resumed.answers(
                    f"tasks, {sampling}",
                    asked,
                    max_new_tokens=4,
                    batch_size=2,
                    sampling=sampling,
                )
                for sampling in (None, drawn)
            ),
            resumed.losses("a/b", rows, batch_size=2),
        )

    found = everything(whole)
    assert found == everything(replace(whole, kept=None))
    (of_losses,) = tmp_path.glob("*.losses")
    files = [of_losses, *tmp_path.glob("*.answers")]
    assert len(files) == 3
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert everything(whole) == found
    weightless = replace(whole, language=replace(language, model=None))
    assert everything(weightless) == found
    # Of other weights nothing is of use.
    before = of_losses.read_bytes().splitlines()[0]
    everything(replace(whole, weights="others"))
    assert of_losses.read_bytes().splitlines()[0] != before


def test_a_changed_byte_costs_its_line_and_those_behind_it(
    evaluation: Evaluation,
) -> None:
    whole = evaluation.answer("whole")
    path = evaluation.kept / "base.answers"
    lines = path.read_bytes().splitlines(keepends=True)
    changed = lines[3].replace(b"true", b"True").replace(b"false", b"False")
    assert changed != lines[3]
    path.write_bytes(b"".join([*lines[:3], changed, *lines[4:]]))
    assert evaluation.answer("again") == whole


@pytest.mark.parametrize("change", [{"max_new_tokens": 3}, {"batch_size": 3}])
def test_other_parameters_begin_anew(
    evaluation: Evaluation, change: dict[str, int]
) -> None:
    evaluation.answer("whole")
    before = (evaluation.kept / "base.answers").read_bytes()
    params = PARAMS.model_copy(update=change)
    evaluation.answer("other", params)
    after = (evaluation.kept / "base.answers").read_bytes()
    assert after.splitlines()[0] != before.splitlines()[0]
    assert len(after.splitlines()) == len(before.splitlines())


def test_another_model_or_other_rows_begin_anew(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    evaluation.answer("whole")
    path = evaluation.kept / "base.answers"
    before = path.read_bytes().splitlines()[0]
    other = evaluation.identity.base.model_copy(update={"digest": "0" * 64})
    evaluation.identity = Identity(system="base", base=other)
    evaluation.answer("other")
    of_other_base = path.read_bytes().splitlines()[0]
    answer(
        evaluation.identity,
        evaluation.language,
        prompts(3),
        PARAMS,
        Places(tmp_path / "few", evaluation.kept),
    )
    of_other_rows = path.read_bytes().splitlines()
    assert len({before, of_other_base, of_other_rows[0]}) == 3
    assert len(of_other_rows) == 1 + 3


def test_a_journal_drops_what_is_torn_and_goes_on_behind_the_last_whole_line(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    Journal(path, "work").add([2, 0], ["two", "zero"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    journal = Journal(path, "work")
    assert len(journal) == 1
    assert journal.missing([0, 2])
    assert not journal.missing([2])
    assert not journal.missing([])
    journal.add([0], ["zero"])
    assert path.read_bytes() == whole
    assert [journal.read(row) for row in (0, 2)] == ["zero", "two"]
    with pytest.raises(KeyError):
        journal.read(1)
    assert len(Journal(path, "other work")) == 0
    assert len(Journal(path, "work")) == 0


def test_a_journal_of_nothing_and_of_foreign_bytes_is_empty(tmp_path: Path) -> None:
    for content in (b"", b"\xff\x00\n", b"no digest\n", b"{}"):
        path = tmp_path / "journal"
        path.write_bytes(content)
        assert len(Journal(path, "work")) == 0
        assert len(Journal(path, "work")) == 0


SCRIPT = """
import sys
from pathlib import Path
from tests.pipelines.test_resumed_answers import CHAT_TEMPLATE, Evaluation
from tests.support.tiny import tiny_manifest
from pipelines.models.language_model import load_language_model

base, folder = Path(sys.argv[1]), Path(sys.argv[2])
manifest = tiny_manifest(base, folder)
language = load_language_model(manifest, base, CHAT_TEMPLATE, "float32")
Evaluation(language, manifest, folder).answer(sys.argv[3])
"""


@pytest.mark.ci
def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_from(
    tiny: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    whole = evaluation.answer("whole")
    killed_in = tmp_path / "killed"
    killed_in.mkdir()
    path = killed_in / "kept/base.answers"
    command = [sys.executable, "-c", SCRIPT, str(tiny), str(killed_in), "out"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        # As soon as one batch is there.
        wait_until(
            lambda: (
                process.poll() is not None
                or (path.is_file() and path.read_bytes().count(b"\n") > 1)
            )
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    kept = path.read_bytes().count(b"\n") - 1
    assert kept >= 2
    evaluation.folder, evaluation.kept = killed_in, killed_in / "kept"
    assert evaluation.answer("again") == whole
