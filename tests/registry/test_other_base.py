"""A champion on another base: compared on answers and bits per byte, and never on a forged base."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.errors import IncompleteEvidence
from flows.judged_bases import base_differences
from pipelines.gates.comparisons import compare
from pipelines.gates.confirmation import compare_on_block
from pipelines.gates.policy import load_policy
from pipelines.scoring.evidence_file import Evidence
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.dataset import Row, group_prompts
from pipelines.values.engine_name import InstalledEngine
from pipelines.values.evidence import Adapter, Scorecard
from pipelines.values.precision import Precision
from pipelines.values.trial import SystemAnswers, Trial
from pipelines.values.verdict import Finalist
from registry.ledger.state import ModelState, RecordedRelease
from registry.release.recompute import maker_differences, recompute
from tests.support import trials
from tests.support.ledgers import SPEC, START, WHY, begun

OTHER, OWN = "9" * 64, "b" * 64
CHAMPION = "c" * 64
OPENVINO = InstalledEngine(name="openvino", version="7")
PERPLEXITY, BITS = "perplexity_per_token", "bits_per_byte"


def champion_adapter(base: str = OTHER) -> Adapter:
    return trials.adapter(sha256=CHAMPION, base_id="other", base_digest=base)


def answers_of_champion(base: str, rows: Sequence[Row]) -> SystemAnswers:
    """As many tokens as the adapter's, so that their number alone tells nothing apart."""
    made = trials.system_answers("champion", group_prompts(rows), trials.wrong, 3.0)
    update = {"base_digest": base, "adapter_sha256": CHAMPION}
    spec = made.completions.spec.model_copy(update=update)
    completions = made.completions.model_copy(update={"spec": spec})
    return made.model_copy(update={"completions": completions})


def trial_with_champion(base: str) -> Trial:
    rows = trials.rows()
    made = trials.trial()
    systems = (*made.systems, answers_of_champion(base, rows))
    return made.model_copy(update={"systems": systems})


def name_champion(
    folder: Path,
    base: str = OTHER,
    precision: Precision | None = None,
    engine: InstalledEngine | None = None,
) -> Path:
    champion = Champion(
        version="1",
        adapter=champion_adapter(base),
        precision=precision,
        engine=engine,
    )
    ChampionInput(champion=champion).write(folder / "champion.json")
    return folder


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return trials.evidence(trial_with_champion(OTHER))


@pytest.fixture
def package(scored_folder: Path, tmp_path: Path) -> Path:
    """What the ledger is asked about: a scorecard, and what it was compared with."""
    shutil.copyfile(scored_folder / "scorecard.json", tmp_path / "scorecard.json")
    return name_champion(tmp_path)


def compared(evidence: Evidence) -> set[tuple[str, str]]:
    policy = trials.policy().gates.screen
    return {(each.metric, each.against) for each in compare(evidence, policy)}


def test_perplexity_is_compared_on_one_base_and_bits_per_byte_on_two(
    evidence: Evidence,
) -> None:
    same = compared(trials.evidence(trial_with_champion(OWN)))
    other = compared(evidence)
    assert {(PERPLEXITY, "champion"), (BITS, "champion")} <= same
    # Though both have equally many tokens.
    assert same - other == {(PERPLEXITY, "champion")}
    assert {(PERPLEXITY, "base"), (BITS, "champion"), ("chrf", "champion")} <= other


@pytest.mark.ci
def test_the_verdict_of_a_whole_package_says_that_bits_per_byte_judges(
    tmp_path: Path,
) -> None:
    trials.write_folder(tmp_path, trial_with_champion(OTHER))
    again = recompute(name_champion(tmp_path))
    assert again.differences == ()
    assert isinstance(again.verdict, Finalist)
    told = {finding.rule: finding for finding in again.verdict.findings}
    words = told[f"{PERPLEXITY} not inferior to champion"].text
    assert "bits_per_byte judges instead" in words
    assert told[f"{BITS} not inferior to champion"].outcome == "passed"
    assert told["chrf superior to champion"].outcome == "passed"


def test_bits_per_byte_is_paired_over_the_bytes_of_the_text(evidence: Evidence) -> None:
    for system in ("adapter", "champion"):
        bits, utf8_bytes = evidence.statistics(system, BITS).T
        nats = [
            sum(loss.nats for loss in row.row.losses) for row in evidence.rows[system]
        ]
        texts = [row.row.references for row in evidence.rows[system]]
        sizes = [sum(len(text.encode()) for text in row) for row in texts]
        assert utf8_bytes.tolist() == sizes
        assert (bits * 0.6931471805599453).tolist() == pytest.approx(nats)


@pytest.mark.parametrize(
    "change",
    [
        {"base_digest": OWN},
        {"base_digest": "7" * 64},
        {"chat_template_sha256": "7" * 64},
        {"precision": "bfloat16"},
        {"engine": "openvino"},
        {"engine_version": "0"},
    ],
)
def test_a_champion_that_answered_otherwise_than_it_was_trained_is_named(
    evidence: Evidence, package: Path, change: dict[str, str]
) -> None:
    card = Scorecard.read(package / "scorecard.json")
    champion = ChampionInput.read(package / "champion.json")
    assert list(maker_differences(card, champion, evidence)) == []
    forged = evidence.made_by["champion"].model_copy(update=change)
    made_by = {**evidence.made_by, "champion": forged}
    other = evidence.model_copy(update={"made_by": made_by})
    (told,) = maker_differences(card, champion, other)
    assert told.startswith("evidence.champion: it was made in another configuration")


def test_a_block_compares_no_perplexities_of_two_bases(evidence: Evidence) -> None:
    policy = trials.policy().gates.screen
    primary = policy.model_copy(update={"primary": PERPLEXITY})
    with pytest.raises(IncompleteEvidence, match="compares nothing"):
        compare_on_block(evidence, primary, "champion", 0.05)
    on_bits = policy.model_copy(update={"primary": BITS})
    assert compare_on_block(evidence, on_bits, "champion", 0.05).low > 0
    same = trials.evidence(trial_with_champion(OWN))
    assert compare_on_block(same, primary, "champion", 0.05).low > 0


def test_older_evidence_that_names_no_base_is_compared_as_before(
    evidence: Evidence,
) -> None:
    older = evidence.model_copy(update={"made_by": {}})
    assert (PERPLEXITY, "champion") in compared(older)


def released(
    *bases: str, precision: str = "float32", engine: str = "transformers"
) -> ModelState:
    """A model whose versions 1, 2, … are the champion's bytes, each on one of these bases."""
    recorded = []
    for number, base in enumerate(bases, start=1):
        update = {
            "base_digest": base,
            "chat_template_sha256": None,
            "precision": precision,
            "engine": engine,
        }
        spec = SPEC.model_copy(update=update)
        release = begun(1, str(number), spec=spec, adapter_sha256=CHAMPION).release
        recorded.append(
            RecordedRelease(
                begun=2,
                release=release,
                judged=1,
                by="rita",
                reason_sha256=WHY,
                at=START,
            )
        )
    return ModelState(served=(recorded[-1],), once_served=tuple(recorded))


def test_the_ledger_says_on_which_base_a_champion_was_released(package: Path) -> None:
    assert list(base_differences(package, released(OTHER), None)) == []
    (told,) = base_differences(package, released("7" * 64), None)
    assert told.startswith(
        f"champion.json: the champion is said to be on base {OTHER[:12]}"
    )


def test_the_ledger_says_in_which_precision_a_champion_was_released(
    package: Path,
) -> None:
    in_int8 = released(OTHER, precision="int8")
    (told,) = base_differences(package, in_int8, None)
    assert told == (
        "champion.json: the champion answered in float32, and was released in int8"
    )
    name_champion(package, precision="int8")
    assert list(base_differences(package, in_int8, None)) == []
    (told,) = base_differences(package, released(OTHER), None)
    assert told.endswith("the champion answered in int8, and was released in float32")


def test_a_champion_has_to_have_answered_in_its_own_precision(
    evidence: Evidence, package: Path
) -> None:
    card = Scorecard.read(package / "scorecard.json")
    name_champion(package, precision="int8")
    champion = ChampionInput.read(package / "champion.json")
    (told,) = maker_differences(card, champion, evidence)
    assert told.startswith("evidence.champion: it was made in another configuration")
    own = evidence.made_by["champion"].model_copy(update={"precision": "int8"})
    made_by = {**evidence.made_by, "champion": own}
    other = evidence.model_copy(update={"made_by": made_by})
    assert list(maker_differences(card, champion, other)) == []


def test_the_ledger_says_by_which_engine_a_champion_was_released(
    package: Path,
) -> None:
    by_openvino = released(OTHER, engine="openvino")
    (told,) = base_differences(package, by_openvino, None)
    assert told.endswith("answered in float32, and was released in float32 by openvino")
    name_champion(package, engine=OPENVINO)
    assert list(base_differences(package, by_openvino, None)) == []
    assert len(list(base_differences(package, released(OTHER), None))) == 1


def test_a_champion_has_to_have_answered_in_its_own_engine(
    evidence: Evidence, package: Path
) -> None:
    card = Scorecard.read(package / "scorecard.json")
    name_champion(package, engine=OPENVINO)
    champion = ChampionInput.read(package / "champion.json")
    (told,) = maker_differences(card, champion, evidence)
    assert told.startswith("evidence.champion: it was made in another configuration")
    # Of another version of it nobody knows how it rounds.
    for version, faults in (("9", 1), (OPENVINO.version, 0)):
        own = evidence.made_by["champion"].in_engine("openvino", version)
        made_by = {**evidence.made_by, "champion": own}
        other = evidence.model_copy(update={"made_by": made_by})
        assert len(list(maker_differences(card, champion, other))) == faults


def test_a_champion_that_nobody_knows_is_taken_on_the_candidates_base_alone(
    package: Path, tmp_path: Path
) -> None:
    (told,) = base_differences(package, ModelState(), None)
    assert f"{OWN[:12]} is its base" in told
    name_champion(tmp_path, OWN)
    assert list(base_differences(tmp_path, ModelState(), None)) == []


def test_the_anchors_own_package_says_its_base(package: Path) -> None:
    assert list(base_differences(package, ModelState(), champion_adapter())) == []
    of_another = champion_adapter("7" * 64)
    assert len(list(base_differences(package, ModelState(), of_another))) == 2


def test_one_prompt_that_was_released_on_two_bases_is_known_by_its_version(
    package: Path, tmp_path: Path
) -> None:
    # A prompt has the same digest on every base; version 1 was on the other one.
    assert list(base_differences(package, released(OTHER, OWN), None)) == []
    (told,) = base_differences(package, released(OWN, OTHER), None)
    assert f"{OWN[:12]} is its base" in told
    # Another installation has another number for it.
    champion = Champion(version="9", adapter=champion_adapter(OTHER))
    ChampionInput(champion=champion).write(tmp_path / "champion.json")
    assert list(base_differences(tmp_path, released(OWN, OTHER), None)) == []
    assert len(list(base_differences(tmp_path, released(OWN), None))) == 1


def test_the_anchors_bytes_on_another_base_are_not_the_anchor(
    package: Path, tmp_path: Path
) -> None:
    anchor = champion_adapter(OWN)
    (told,) = base_differences(package, released(OTHER), anchor)
    assert told.startswith(f"champion.json: the anchor is on base {OWN[:12]}")
    both = ChampionInput(
        champion=Champion(version="1", adapter=champion_adapter(OTHER)),
        anchor=Champion(version="2", adapter=anchor),
    )
    both.write(tmp_path / "champion.json")
    assert list(base_differences(tmp_path, released(OTHER, OWN), anchor)) == []


def test_the_policy_of_the_project_judges_bits_per_byte() -> None:
    limits = load_policy(trials.POLICY).gates.screen
    assert BITS in {guardrail.metric for guardrail in limits.guardrails}
