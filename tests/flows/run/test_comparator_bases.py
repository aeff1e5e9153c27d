"""A champion on another base: its base is brought along, or the run ends before training."""

from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from core.errors import ParameterError, UnusableBaseModel
from core.files import write_text
from flows.run.comparator_bases import place_comparator_bases, place_version
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.models.base_store import read_base_model
from pipelines.models.comparator_bases import place_of
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.engine_name import InstalledEngine
from pipelines.values.params import Params, override
from pipelines.values.verdict import Comparison, Finalist, Finding
from registry.mlflow.recorded import ModelVersion
from tests.support import trials
from tests.support.other_tiny import CHAT_TEMPLATE, make_other_base
from tests.support.tiny import CHAT_TEMPLATE as OWN_TEMPLATE
from tests.support.tiny import tiny_manifest

VERSION = ModelVersion(
    name="letters-tiny",
    version="1",
    run_id="1",
    package_sha256="0" * 64,
    logical_run="1",
)
PRIMARY = "primary: chrf"
BITS = "    - {metric: bits_per_byte, margin: 0.05}\n"


def workspace_at(root: Path, params: Params | None = None) -> Workspace:
    """What the functions under test read of a workspace."""
    facts = SimpleNamespace(
        root=root, home=root / "home", params=params or trials.params()
    )
    return cast("Workspace", facts)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_other_base(tmp_path_factory.mktemp("other") / "base")


@pytest.fixture
def root(tiny: Path, tmp_path: Path) -> Path:
    """A workspace after stage `base_model`, with the policy of the project."""
    own = tiny_manifest(tiny, tmp_path / "home")
    own.write(tmp_path / layout.BASE_MODEL_MANIFEST)
    write_text(tmp_path / layout.CHAT_TEMPLATE, OWN_TEMPLATE)
    write_text(tmp_path / layout.POLICY, trials.POLICY.read_text(encoding="utf-8"))
    return tmp_path


def bring_champion(root: Path, base_folder: Path, template: str) -> BaseModelManifest:
    """Put a champion of a base into the workspace, out of a package."""
    base = tiny_manifest(base_folder, root / "home")
    package = root / "package"
    write_text(package / "adapter/adapter_config.json", "{}")
    base.write(package / "base_model.json")
    write_text(package / "chat_template.jinja", template)
    write_text(package / "params.yaml", trials.PARAMS.read_text(encoding="utf-8"))
    settings = {"base_model.source": "folder", "base_model.path": str(base_folder)}
    override(package / "params.yaml", settings)
    adapter = trials.adapter(
        base_digest=base.digest,
        base_id=base.id,
        chat_template_sha256=base.chat_template_sha256,
    )
    adapter.write(package / "adapter.json")
    write_verdict(package)
    placed = place_version(VERSION, package, "champion", workspace_at(root))
    ChampionInput(champion=placed).write(root / layout.CHAMPION_INPUT)
    return base


def write_verdict(package: Path, **spec: str) -> None:
    passed = Finding(rule="superior", outcome="passed", text="It is better.")
    better = Comparison(
        metric="chrf",
        against="base",
        difference=9.0,
        low=7.0,
        high=11.0,
        standard_error=1.0,
        clusters=40,
    )
    finalist = Finalist(
        findings=(passed,),
        comparisons=(better,),
        policy_sha256="0" * 64,
        scorecard_digest="0" * 64,
        adapter=trials.adapter(),
        spec=trials.spec().model_copy(update=spec),
    )
    finalist.write(package / "verdict.json")


def test_a_champion_in_another_precision_than_the_runs_keeps_it(
    root: Path, tiny: Path
) -> None:
    bring_champion(root, tiny, OWN_TEMPLATE)
    # Of the run's own precision nothing is written: its stages keep their keys.
    own = ChampionInput.read(root / layout.CHAMPION_INPUT).champion
    assert own is not None
    assert own.precision is None
    assert "precision" not in own.model_dump()
    params = trials.params().generation
    assert own.as_served(params) == params
    write_verdict(root / "package", precision="int8")
    placed = place_version(VERSION, root / "package", "anchor", workspace_at(root))
    assert placed.precision == "int8"
    served = placed.as_served(params)
    assert served == params.model_copy(update={"precision": "int8"})


def test_a_champion_in_a_precision_of_a_later_assay_is_named(
    root: Path, tiny: Path
) -> None:
    bring_champion(root, tiny, OWN_TEMPLATE)
    write_verdict(root / "package", precision="int4")
    with pytest.raises(ParameterError, match="version 1 answers in int4, which this"):
        place_version(VERSION, root / "package", "anchor", workspace_at(root))


def test_a_champion_of_another_engine_than_the_runs_answers_in_it(
    root: Path, tiny: Path
) -> None:
    bring_champion(root, tiny, OWN_TEMPLATE)
    own = ChampionInput.read(root / layout.CHAMPION_INPUT).champion
    assert own is not None
    assert "engine" not in own.model_dump()
    write_verdict(root / "package", engine="openvino", engine_version="1")
    placed = place_version(VERSION, root / "package", "anchor", workspace_at(root))
    # As it is installed, and not as it was then: nobody has the old one.
    here = InstalledEngine(name="openvino", version=version("openvino"))
    assert placed.engine == here
    params = trials.params().generation
    served = placed.as_served(params)
    assert served == params.model_copy(update={"engine": "openvino"})


def test_a_champion_whose_engine_is_missing_ends_the_run_before_training(
    root: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_champion(root, tiny, OWN_TEMPLATE)
    monkeypatch.delenv("ASSAY_VLLM_PYTHON", raising=False)
    write_verdict(root / "package", engine="vllm")
    with pytest.raises(ParameterError, match=r"by vllm.*ASSAY_VLLM_PYTHON does not"):
        place_version(VERSION, root / "package", "anchor", workspace_at(root))
    write_verdict(root / "package", engine="onnx")
    with pytest.raises(ParameterError, match="version 1 answers by onnx, which this"):
        place_version(VERSION, root / "package", "anchor", workspace_at(root))


def edit_policy(root: Path, before: str, after: str) -> None:
    path = root / layout.POLICY
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def test_the_base_of_a_champion_is_placed_only_where_it_is_another_one(
    root: Path, tiny: Path, other: Path
) -> None:
    bring_champion(root, tiny, OWN_TEMPLATE)
    place_comparator_bases(workspace_at(root))
    champions = root / layout.CHAMPION
    # Nothing but the adapter: stages of the same base keep their keys.
    assert {path.name for path in champions.iterdir()} == {"champion", "champion.json"}
    (champions / "champion/adapter_config.json").unlink()
    (champions / "champion").rmdir()
    base = bring_champion(root, other, CHAT_TEMPLATE)
    place_comparator_bases(workspace_at(root))
    place = place_of("champion", champions)
    assert read_base_model(place) == (base, CHAT_TEMPLATE)
    assert {path.name for path in place.iterdir()} == {
        "manifest.json",
        "chat_template.jinja",
    }


def test_weights_are_brought_from_where_the_champions_own_run_had_them(
    root: Path, other: Path
) -> None:
    base = bring_champion(root, other, CHAT_TEMPLATE)
    link = root / "home/base-models" / base.digest
    link.unlink()
    place_comparator_bases(workspace_at(root))
    assert link.resolve() == other


def test_weights_that_are_gone_end_the_run_before_training(
    root: Path, other: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("moved") / "base"
    make_other_base(moved)
    base = bring_champion(root, moved, CHAT_TEMPLATE)
    (root / "home/base-models" / base.digest).unlink()
    moved.rename(moved.with_name("gone"))
    with pytest.raises(UnusableBaseModel, match="weights are not on this machine"):
        place_comparator_bases(workspace_at(root))


def test_other_bytes_in_the_folder_of_then_are_not_taken(
    root: Path, tiny: Path, other: Path
) -> None:
    base = bring_champion(root, other, CHAT_TEMPLATE)
    (root / "home/base-models" / base.digest).unlink()
    settings = {"base_model.path": str(tiny)}
    override(root / layout.DATA / ".comparator_bases/champion/params.yaml", settings)
    with pytest.raises(UnusableBaseModel, match="weights are not on this machine"):
        place_comparator_bases(workspace_at(root))


def test_a_primary_metric_of_tokens_is_refused_across_bases(
    root: Path, other: Path
) -> None:
    edit_policy(root, PRIMARY, "primary: perplexity_per_token")
    edit_policy(root, "    - {metric: perplexity_per_token, margin: 0.5}\n", "")
    bring_champion(root, other, CHAT_TEMPLATE)
    with pytest.raises(ParameterError, match="is the policy's primary metric"):
        place_comparator_bases(workspace_at(root))


def test_a_policy_that_wants_fewer_tokens_is_refused_across_bases(
    root: Path, other: Path
) -> None:
    saving = "{cost: tokens_per_answer, saving: 0.2, margin: 1.0, than: [%s]}"
    bring_champion(root, other, CHAT_TEMPLATE)
    edit_policy(root, PRIMARY, f"{PRIMARY}\n  cheaper: {saving % 'few_shot'}")
    place_comparator_bases(workspace_at(root))
    edit_policy(root, "than: [few_shot]", "than: [few_shot, champion]")
    with pytest.raises(ParameterError, match=r"Take champion out of screen\.cheaper"):
        place_comparator_bases(workspace_at(root))


def test_perplexity_without_bits_per_byte_is_refused_across_bases(
    root: Path, tiny: Path, other: Path
) -> None:
    base = bring_champion(root, other, CHAT_TEMPLATE)
    assert base.digest
    unscored = trials.params(metrics=("chrf", "bleu", "perplexity_per_token"))
    with pytest.raises(ParameterError, match="does not judge in its place"):
        place_comparator_bases(workspace_at(root, unscored))
    edit_policy(root, BITS, "")
    with pytest.raises(ParameterError, match=r"Put bits_per_byte into score\.metrics"):
        place_comparator_bases(workspace_at(root))
    # Without perplexity there is nothing that would have to be replaced.
    answers_alone = trials.params(metrics=("chrf", "bleu"))
    place_comparator_bases(workspace_at(root, answers_alone))


def test_another_template_of_the_same_base_keeps_perplexity(
    root: Path, tiny: Path
) -> None:
    edit_policy(root, BITS, "")
    bring_champion(root, tiny, OWN_TEMPLATE)
    kept = root / layout.DATA / ".comparator_bases/champion"
    path = kept / "manifest.json"
    manifest = BaseModelManifest.read(path)
    bare = manifest.model_copy(update={"chat_template_sha256": None})
    bare.write(path)
    named = ChampionInput.read(root / layout.CHAMPION_INPUT).champion
    assert named is not None
    adapter = named.adapter.model_copy(update={"chat_template_sha256": None})
    champion = Champion(version="1", adapter=adapter)
    ChampionInput(champion=champion).write(root / layout.CHAMPION_INPUT)
    place_comparator_bases(workspace_at(root))
    assert read_base_model(place_of("champion", root / layout.CHAMPION))[1] is None
