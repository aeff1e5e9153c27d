"""Champion and anchor answer on the base of their own training, and on no other."""

from pathlib import Path

import pytest

from core.errors import DamagedFile, UnusableBaseModel
from core.files import write_jsonl, write_text
from pipelines import layout
from pipelines.models.answers import Places
from pipelines.models.comparator_bases import PlacedBase, base_of, own_base, place_of
from pipelines.stages.generate import Questions, _answer_by_comparators
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.dataset import Message, Prompt
from pipelines.values.evidence import Adapter
from pipelines.values.trial import read_answers
from tests.support import trials
from tests.support.other_tiny import CHAT_TEMPLATE, make_other_base
from tests.support.tiny import CHAT_TEMPLATE as OWN_TEMPLATE
from tests.support.tiny import make_tiny_adapter, tiny_manifest


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def own(tiny: Path, home: Path) -> PlacedBase:
    return PlacedBase(tiny_manifest(tiny, home), tiny, OWN_TEMPLATE)


@pytest.fixture
def other(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlacedBase:
    """Another base on this machine, placed beside the champion of the current folder."""
    folder = make_other_base(tmp_path / "other")
    manifest = tiny_manifest(folder, home).model_copy(update={"id": "other"})
    monkeypatch.chdir(tmp_path)
    place(manifest)
    return PlacedBase(manifest, folder, CHAT_TEMPLATE)


def place(manifest: BaseModelManifest) -> None:
    folder = place_of("champion")
    manifest.write(folder / "manifest.json")
    write_text(folder / "chat_template.jinja", CHAT_TEMPLATE)


def adapter_on(base: PlacedBase) -> Adapter:
    manifest = base.manifest
    return trials.adapter(
        base_digest=manifest.digest,
        base_id=manifest.id,
        chat_template_sha256=manifest.chat_template_sha256,
    )


def test_an_adapter_of_the_same_base_answers_on_the_runs_own(
    own: PlacedBase, home: Path
) -> None:
    assert base_of("champion", adapter_on(own), own, home) is own


def test_an_adapter_of_another_base_answers_on_that_one(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    found = base_of("champion", adapter_on(other), own, home)
    assert (found.manifest, found.template) == (other.manifest, CHAT_TEMPLATE)
    assert found.folder.resolve() == other.folder


def test_a_base_under_another_template_is_another_base(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    adapter = adapter_on(other).model_copy(update={"chat_template_sha256": None})
    with pytest.raises(DamagedFile, match="does not hold the base model"):
        base_of("champion", adapter, own, home)


def test_another_base_beside_the_champion_than_its_own_is_refused(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    stranger = adapter_on(other).model_copy(update={"base_digest": "f" * 64})
    with pytest.raises(DamagedFile, match="does not hold the base model"):
        base_of("champion", stranger, own, home)


def test_a_manifest_that_names_fewer_files_is_refused(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    fewer = dict(list(other.manifest.files.items())[:1])
    place(other.manifest.model_copy(update={"files": fewer}))
    with pytest.raises(DamagedFile, match="does not hold the base model"):
        base_of("champion", adapter_on(other), own, home)


def test_weights_that_are_not_here_are_named_with_what_brings_them(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    (home / "base-models" / other.manifest.digest).unlink()
    with pytest.raises(UnusableBaseModel) as refusal:
        base_of("champion", adapter_on(other), own, home)
    assert "The champion was trained on other" in str(refusal.value)
    assert "ln -s FOLDER" in str(refusal.value)


def test_weights_that_changed_are_refused(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    (other.folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DamagedFile, match="is not the file that the manifest"):
        base_of("champion", adapter_on(other), own, home)


def test_without_a_base_beside_it_another_champion_is_refused(
    own: PlacedBase, other: PlacedBase, home: Path
) -> None:
    with pytest.raises(DamagedFile, match="does not exist"):
        base_of("anchor", adapter_on(other), own, home)


def test_a_champion_of_another_base_answers_with_its_own_tokens_and_in_its_precision(
    own: PlacedBase, other: PlacedBase, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(home))
    folder = layout.CHAMPION / "champion"
    adapter = make_tiny_adapter(other.folder, other.manifest, folder)
    # The run answers in float32, and this champion is served in another precision.
    named = Champion(version="1", adapter=adapter, precision="int8")
    ChampionInput(champion=named).write(layout.CHAMPION_INPUT)
    text = "red dog"
    prompt = Prompt(
        id="1",
        group="1",
        messages=(Message(role="user", content="which?"),),
        references=(text,),
    )
    params = trials.params().generation
    asked = Questions(own.manifest, [prompt], params, Places(layout.GENERATE))
    _answer_by_comparators(asked, own)
    answers = read_answers(layout.GENERATE / "champion.json")
    spec = answers.completions.spec
    assert (params.precision, spec.precision) == ("float32", "int8")
    assert spec.base_digest == other.manifest.digest
    assert spec.chat_template_sha256 == other.manifest.chat_template_sha256
    (loss,) = answers.losses
    # Two pairs of letters are one token each; the end of the turn is one more.
    assert (loss.tokens, loss.utf8_bytes) == (6, len(text))


def test_the_runs_own_base_is_what_its_stage_wrote(
    own: PlacedBase, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own.manifest.write(layout.BASE_MODEL_MANIFEST)
    write_text(layout.CHAT_TEMPLATE, OWN_TEMPLATE)
    found = own_base(home)
    assert (found.manifest, found.template) == (own.manifest, OWN_TEMPLATE)
    write_jsonl(layout.CHAT_TEMPLATE, [{"another": "template"}])
    with pytest.raises(DamagedFile, match="not the chat template"):
        own_base(home)
