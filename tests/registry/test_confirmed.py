"""The confirmation in a package: counted once more from its evidence, and the ledger's alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from core.errors import DamagedFile
from core.value import FileDigest
from pipelines.gates.confirmation import compare_on_block
from pipelines.gates.policy import load_policy
from pipelines.metrics import metric_named
from pipelines.scoring.evidence_file import Evidence, read_evidence, write_evidence
from pipelines.stages.score import build_evidence
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.dataset import Row, write_rows
from pipelines.values.evidence import Scorecard, System
from pipelines.values.examples import Retrieved
from pipelines.values.metric_settings import MetricSettings
from pipelines.values.reserve import (
    Block,
    Confirmation,
    digest_of_rows,
    key_of,
)
from pipelines.values.verdict import Finalist, Undecided
from registry.release.confirmed import (
    FOLDER,
    RETRIEVED,
    confirmation_differences,
    is_of_block,
    read_confirmation,
)
from registry.release.recompute import recompute, rescreen
from tests.support import trials
from tests.support.confirmations import closed, opened
from tests.support.sampled import evidence_of, with_samples

LEVEL = 0.02187450828872367


def sealed_rows(seed: int = 7) -> tuple[Row, ...]:
    return tuple(
        row.model_copy(update={"id": f"s-{row.id}", "group": f"sealed {row.group}"})
        for row in trials.rows(seed=seed)
    )


def evidence_on(rows: Sequence[Row], adapter: trials.Answer = trials.right) -> Evidence:
    systems: dict[System, tuple[trials.Answer, float]] = {
        "adapter": (adapter, 2.0),
        "few_shot": (trials.wrong, 3.0),
    }
    asked = trials.trial(systems, rows)
    return build_evidence(asked, [metric_named("chrf")], MetricSettings())


def write_confirmation(
    folder: Path, rows: tuple[Row, ...], evidence: Evidence, **of_block: Any
) -> Confirmation:
    """As stage `confirm` writes it, into the folder of evidence."""
    inside = folder / FOLDER
    inside.mkdir(exist_ok=True)
    write_rows(inside / "rows.jsonl", rows)
    write_evidence(inside / "evidence.parquet", evidence)
    facts = {
        "number": 1,
        "level": LEVEL,
        "groups": tuple(dict.fromkeys(key_of(row.group) for row in rows)),
        "rows_sha256": digest_of_rows(rows),
        "against": "few_shot",
    }
    block = Block.model_validate({**facts, **of_block})
    policy = load_policy(folder / "policy.yaml").gates.screen
    confirmation = Confirmation(
        block=block,
        comparison=compare_on_block(evidence, policy, block.against, block.level),
        rows=FileDigest.of(inside / "rows.jsonl"),
        evidence=FileDigest.of(inside / "evidence.parquet"),
    )
    confirmation.write(inside / "confirmation.json")
    return confirmation


def write_verdict(folder: Path) -> None:
    """The verdict with what the confirmation in the folder shows."""
    rescreen(folder, folder / "policy.yaml").write(folder / "verdict.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package whose adapter was confirmed on sealed rows."""
    trials.write_folder(tmp_path)
    rows = sealed_rows()
    write_confirmation(tmp_path, rows, evidence_on(rows))
    write_verdict(tmp_path)
    return tmp_path


def differences(folder: Path) -> tuple[str, ...]:
    return recompute(folder).differences


def test_what_was_confirmed_follows_from_its_evidence(folder: Path) -> None:
    again = recompute(folder)
    assert again.differences == ()
    assert isinstance(again.verdict, Finalist)
    assert again.verdict.findings[-1].rule == "confirmation"


def test_what_was_not_better_on_the_block_is_undecided(folder: Path) -> None:
    rows = sealed_rows()
    write_confirmation(folder, rows, evidence_on(rows, trials.wrong))
    assert any("verdict" in each for each in differences(folder))
    write_verdict(folder)
    again = recompute(folder)
    assert again.differences == ()
    assert isinstance(again.verdict, Undecided)


def test_a_reason_for_no_block_stays_the_reason(folder: Path) -> None:
    for path in (folder / FOLDER).iterdir():
        path.unlink()
    reason = Confirmation(missing="No block is left: 7 groups more are needed")
    reason.write(folder / FOLDER / "confirmation.json")
    write_verdict(folder)
    again = recompute(folder)
    assert (again.differences, again.verdict.verdict) == ((), "undecided")
    assert again.verdict.findings[-1].text == reason.missing


def looser(folder: Path) -> None:
    """A level that no ledger gave it, and bounds that do not belong to it."""
    path = folder / FOLDER / "confirmation.json"
    path.write_text(path.read_text().replace(str(LEVEL), "0.4"))


def without(folder: Path) -> None:
    for path in (folder / FOLDER).iterdir():
        path.unlink()
    (folder / FOLDER).rmdir()


def of_standing_rows(folder: Path) -> None:
    rows = trials.rows()
    write_confirmation(folder, rows, evidence_on(rows))


def of_other_groups(folder: Path) -> None:
    rows = sealed_rows()
    write_confirmation(folder, rows, evidence_on(rows), groups=(key_of("another"),))


def of_other_rows(folder: Path) -> None:
    rows = sealed_rows()
    write_confirmation(folder, rows, evidence_on(rows), rows_sha256="0" * 64)


def of_other_prompts(folder: Path) -> None:
    write_confirmation(folder, sealed_rows(), evidence_on(sealed_rows(8)))


def with_another_maker(folder: Path) -> None:
    rows = sealed_rows()
    evidence = evidence_on(rows)
    other = evidence.made_by["adapter"].with_adapter("f" * 64)
    made_by = {**evidence.made_by, "adapter": other}
    forged = evidence.model_copy(update={"made_by": made_by})
    write_confirmation(folder, rows, forged)


def with_other_settings(folder: Path) -> None:
    rows = sealed_rows()
    evidence = evidence_on(rows).model_copy(update={"settings": None})
    write_confirmation(folder, rows, evidence)


def with_sampled_answers(folder: Path) -> None:
    rows = sealed_rows()
    systems: dict[System, tuple[trials.Answer, float]] = {
        "adapter": (trials.right, 2.0),
        "few_shot": (trials.wrong, 3.0),
    }
    asked = trials.trial(systems, rows)
    sampled = tuple(with_samples(answers) for answers in asked.systems)
    asked = asked.model_copy(update={"systems": sampled})
    write_confirmation(folder, rows, evidence_of(asked, "chrf"))


def with_edited_statistics(folder: Path) -> None:
    rows = sealed_rows()
    evidence = evidence_on(rows)
    first, *others = evidence.rows["few_shot"]
    edited = first.model_copy(
        update={"statistics": {"chrf": tuple(0.0 for _ in first.statistics["chrf"])}}
    )
    changed = {**evidence.rows, "few_shot": (edited, *others)}
    write_confirmation(folder, rows, evidence.model_copy(update={"rows": changed}))


def without_the_champion(folder: Path) -> None:
    """Something serves, and the block compared with the best prompt."""
    champion = Champion(version="1", adapter=trials.adapter(sha256="c" * 64))
    ChampionInput(champion=champion).write(folder / "champion.json")


@pytest.mark.parametrize(
    ("edit", "fact"),
    [
        (looser, "confirmation"),
        (without, "there is a finding of confirmation"),
        (of_standing_rows, "is not sealed"),
        (of_other_groups, "of other groups"),
        (of_other_rows, "not those of the block"),
        (of_other_prompts, "prompts"),
        (with_another_maker, "what answered is not adapter, few_shot"),
        (with_other_settings, "under other settings"),
        (with_sampled_answers, "drawn otherwise than the rest"),
        (with_edited_statistics, "chrf"),
        (without_the_champion, "other systems answered"),
    ],
)
def test_whatever_is_edited_is_named(
    folder: Path, edit: Callable[[Path], None], fact: str
) -> None:
    edit(folder)
    found = differences(folder)
    assert any(fact in each for each in found), found


@pytest.mark.parametrize("name", ["rows.jsonl", "evidence.parquet"])
@pytest.mark.parametrize("is_removed", [True, False])
def test_files_that_the_confirmation_does_not_name_are_not_read(
    folder: Path, name: str, is_removed: bool
) -> None:
    path = folder / FOLDER / name
    if is_removed:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(DamagedFile, match="not the file that the confirmation names"):
        differences(folder)


def test_what_screen_refuses_is_not_made_good_by_a_confirmation(folder: Path) -> None:
    policy = folder / "policy.yaml"
    stricter = policy.read_text().replace("min_clusters: 20", "min_clusters: 31")
    policy.write_text(stricter)
    verdict = rescreen(folder, policy)
    assert isinstance(verdict, Undecided)
    assert "confirmation" not in {each.rule for each in verdict.findings}


def test_a_policy_with_another_primary_metric_finds_its_block_not_scored(
    folder: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "other.yaml"
    text = (
        (folder / "policy.yaml").read_text().replace("primary: chrf", "primary: bleu")
    )
    guarded = text.replace("{metric: bleu, margin: 1.0}", "{metric: chrf, margin: 1.0}")
    policy.write_text(guarded)
    verdict = rescreen(folder, policy)
    assert "The block was scored by chrf" in verdict.findings[-1].text


def test_a_package_is_of_a_block_only_as_the_ledger_holds_it(folder: Path) -> None:
    stored = read_confirmation(folder)
    assert stored is not None
    confirmation = stored.confirmation
    assert confirmation.block is not None
    assert confirmation.evidence is not None
    facts: dict[str, Any] = {
        "rows_sha256": confirmation.block.rows_sha256,
        "level": LEVEL,
        "against": "few_shot",
        "against_sha256": None,
    }
    entry = opened(1, **facts)
    shown = closed(2, is_confirmed=True).model_copy(
        update={"evidence_sha256": confirmation.evidence.sha256}
    )
    assert is_of_block(stored, entry, shown)
    assert not is_of_block(stored, entry, None)
    assert not is_of_block(stored, entry, closed(2, is_confirmed=True))
    for change in (
        {"number": 2},
        {"level": 0.4},
        {"rows_sha256": "0" * 64},
        {"against": "champion"},
    ):
        assert not is_of_block(stored, entry.model_copy(update=change), shown)
    (folder / FOLDER / "confirmation.json").write_text('{"missing": "why"}')
    without_block = read_confirmation(folder)
    assert without_block is not None
    assert not is_of_block(without_block, entry, shown)


def test_a_champion_of_another_base_has_to_answer_the_block_on_that_one(
    folder: Path,
) -> None:
    rows = sealed_rows()
    systems: dict[System, tuple[trials.Answer, float]] = {
        "adapter": (trials.right, 2.0),
        "champion": (trials.wrong, 3.0),
    }
    asked = trials.trial(systems, rows)
    evidence = build_evidence(asked, [metric_named("chrf")], MetricSettings())
    adapter = trials.adapter(sha256="c" * 64, base_digest="9" * 64)
    ChampionInput(champion=Champion(version="1", adapter=adapter)).write(
        folder / "champion.json"
    )

    def told_of(base: str) -> list[str]:
        made = evidence.made_by["adapter"].with_adapter("c" * 64)
        champion = made.model_copy(update={"base_digest": base})
        made_by = {**evidence.made_by, "champion": champion}
        answered = evidence.model_copy(update={"made_by": made_by})
        write_confirmation(folder, rows, answered, against="champion")
        stored = read_confirmation(folder)
        assert stored is not None
        assert stored.opened is not None
        card = Scorecard.read(folder / "scorecard.json")
        policy = load_policy(folder / "policy.yaml").gates.screen
        return list(
            # Something serves, so no comparison of the standing rows chooses the opponent.
            confirmation_differences(folder, stored, card, policy, ())
        )

    assert told_of("9" * 64) == []
    (told,) = told_of("b" * 64)
    assert "what answered is not adapter, champion" in told


def test_evidence_without_a_confirmation_has_none(folder: Path) -> None:
    without(folder)
    assert read_confirmation(folder) is None
    assert read_evidence(folder / "evidence.parquet").rows


def test_a_block_answered_after_retrieval_is_held_to_its_record(folder: Path) -> None:
    rows = sealed_rows()
    systems: dict[System, tuple[trials.Answer, float]] = {
        "adapter": (trials.right, 2.0),
        "retrieval": (trials.wrong, 3.0),
    }
    asked = trials.trial(systems, rows)
    evidence = build_evidence(asked, [metric_named("chrf")], MetricSettings())
    write_confirmation(folder, rows, evidence, against="retrieval")
    # A record of other prompts, from an index of other rows.
    record = Retrieved(
        method="bm25s|test",
        examples=1,
        dev_nats_per_token={1: 1.0},
        train_sha256="8" * 64,
        rows=10,
        found={},
    )
    record.write(folder / FOLDER / RETRIEVED)
    found = differences(folder)
    assert any("its index is not the training rows" in each for each in found), found
    assert any("about other prompts than the evidence" in each for each in found)
