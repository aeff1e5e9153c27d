"""A stored verdict follows from its evidence, and an edited file is named."""

import json
import shutil
from pathlib import Path

import pytest

from core.errors import DamagedFile
from core.value import FileDigest
from pipelines.gates.confirmation import YEAR_RULE
from pipelines.scoring.evidence_file import read_evidence, write_evidence
from pipelines.values.champion import Champion, ChampionInput
from pipelines.values.evidence import Scorecard
from registry.release.recompute import (
    is_older,
    older_differences,
    recompute,
    rescreen,
    rival_differences,
)
from tests.support import trials


@pytest.fixture
def folder(scored_folder: Path, tmp_path: Path) -> Path:
    """A copy to be edited."""
    return Path(shutil.copytree(scored_folder, tmp_path / "folder"))


def edit_evidence(folder: Path, **changes: object) -> None:
    """Edit the adapter's first row and make every digest fit, as a forger would."""
    evidence = read_evidence(folder / "evidence.parquet")
    rows = evidence.rows["adapter"]
    edited = evidence.model_copy(
        update={
            "rows": evidence.rows
            | {"adapter": (rows[0].model_copy(update=changes), *rows[1:])}
        }
    )
    write_evidence(folder / "evidence.parquet", edited)
    card = Scorecard.read(folder / "scorecard.json").model_copy(
        update={"evidence": FileDigest.of(folder / "evidence.parquet")}
    )
    trials.write_verdict(folder, card)


def test_a_stored_verdict_is_found_again(folder: Path) -> None:
    found = recompute(folder)
    assert found.verdict.verdict == "passed"
    assert found.differences == ()


def test_a_verdict_from_before_it_named_the_error_of_a_year_is_found_again(
    folder: Path,
) -> None:
    policy = (folder / "policy.yaml").read_text(encoding="utf-8")
    without = policy.replace("reserve: sealed", "reserve: none")
    (folder / "policy.yaml").write_text(without, encoding="utf-8")
    verdict = trials.write_verdict(folder, Scorecard.read(folder / "scorecard.json"))
    assert recompute(folder).differences == ()
    assert verdict.findings[-1].rule == YEAR_RULE
    older = verdict.model_copy(update={"findings": verdict.findings[:-1]})
    older.write(folder / "verdict.json")
    assert recompute(folder).differences == ()
    # Any other rule that is missing is one that somebody took out.
    edited = verdict.model_copy(update={"findings": verdict.findings[1:]})
    edited.write(folder / "verdict.json")
    assert recompute(folder).differences


def test_tests_that_the_held_out_rows_do_not_have_are_named(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    easier = {
        system: tuple(
            each.model_copy(
                update={"row": each.row.model_copy(update={"tests": ("assert f",)})}
            )
            for each in rows
        )
        for system, rows in evidence.rows.items()
    }
    path = folder / "evidence.parquet"
    write_evidence(path, evidence.model_copy(update={"rows": easier}))
    card = Scorecard.read(folder / "scorecard.json").model_copy(
        update={"evidence": FileDigest.of(path)}
    )
    trials.write_verdict(folder, card)
    differences = recompute(folder).differences
    assert any("evidence.adapter.prompts" in each for each in differences), differences


def test_screening_again_gives_the_verdict_of_recomputing(folder: Path) -> None:
    policy = folder / "policy.yaml"
    assert rescreen(folder, policy) == recompute(folder, policy).verdict


def test_an_edited_verdict_is_named_field_by_field(folder: Path) -> None:
    path = folder / "verdict.json"
    document = json.loads(path.read_text())
    document["comparisons"][0]["low"] += 1
    document["findings"][0]["text"] = "All is well"
    path.write_text(json.dumps(document))
    found = recompute(folder).differences
    assert [difference.split(":")[0] for difference in found] == [
        "verdict.findings[0].text",
        "verdict.comparisons[0].low",
    ]


@pytest.mark.parametrize(
    ("version", "named"),
    [
        (None, "statistics without a number"),
        (1, "statistics 1"),
        (3, "statistics 3"),
    ],
)
def test_a_verdict_by_other_statistics_is_named_and_judged_by_those_of_now(
    folder: Path, version: int | None, named: str
) -> None:
    path = folder / "verdict.json"
    document = json.loads(path.read_text())
    del document["statistics"]
    if version is not None:
        document["statistics"] = version
    path.write_text(json.dumps(document))
    found = recompute(folder)
    assert found.verdict == rescreen(folder, folder / "policy.yaml")
    (sentence,) = found.differences
    assert f"`screen` judged by {named}, and statistics 2 hold now" in sentence
    assert sentence.endswith("Have it scored and judged again with `assay run`")


def test_another_policy_gives_another_verdict_and_says_so(folder: Path) -> None:
    stricter = folder / "stricter.yaml"
    stricter.write_text(
        trials.POLICY.read_text().replace("min_clusters: 20", "min_clusters: 40")
    )
    found = recompute(folder, stricter)
    assert found.verdict.verdict == "undecided"
    assert found.differences


def test_statistics_that_do_not_follow_from_the_texts_are_named(folder: Path) -> None:
    first = read_evidence(folder / "evidence.parquet").rows["adapter"][0]
    edit_evidence(folder, statistics=first.statistics | {"exact_match": (0.5, 1.0)})
    found = recompute(folder).differences
    assert any(
        f"evidence.adapter.{first.row.prompt_id}.statistics.exact_match[0]: 0.5 stored"
        in difference
        for difference in found
    )


def test_a_control_within_its_own_group_is_named(folder: Path) -> None:
    rows = read_evidence(folder / "evidence.parquet").rows["adapter"]
    same_group = next(row for row in rows[1:] if row.group == rows[0].group)
    edit_evidence(folder, control_prompt_id=same_group.row.prompt_id)
    assert any(
        "its control is of its own group" in difference
        for difference in recompute(folder).differences
    )


def test_evidence_that_is_not_the_scorecards_is_damage(folder: Path) -> None:
    path = folder / "evidence.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DamagedFile, match="not the evidence that the scorecard names"):
        recompute(folder)
    path.unlink()
    with pytest.raises(DamagedFile, match="not the evidence that the scorecard names"):
        recompute(folder)


@pytest.mark.parametrize("system", ["champion", "anchor"])
def test_a_rival_that_is_named_and_was_not_scored_is_told(
    folder: Path, system: str
) -> None:
    comparator = Champion(version="3", adapter=trials.adapter())
    ChampionInput.model_validate({"champion": None, system: comparator}).write(
        folder / "champion.json"
    )
    where = ("", " in the evidence")
    assert recompute(folder).differences == tuple(
        f"{system}: not scored{each}, and champion.json names 3" for each in where
    )


def test_a_champion_that_was_scored_and_is_not_named_is_told(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    comparators = tuple(
        each.model_copy(update={"system": "champion"})
        for each in card.systems
        if each.system == "base"
    )
    scored = card.model_copy(update={"systems": (*card.systems, *comparators)})
    evidence = read_evidence(folder / "evidence.parquet")
    found = rival_differences(scored, ChampionInput(champion=None), evidence)
    assert found == ("champion: scored, and champion.json names none",)
    answered = evidence.model_copy(
        update={"rows": {**evidence.rows, "champion": evidence.rows["base"]}}
    )
    found = rival_differences(card, ChampionInput(champion=None), answered)
    assert found == ("champion: scored in the evidence, and champion.json names none",)


def test_without_a_record_of_what_it_was_compared_with_there_is_no_verdict(
    folder: Path,
) -> None:
    (folder / "champion.json").unlink()
    with pytest.raises(DamagedFile, match=r"champion\.json does not exist"):
        recompute(folder)


def test_an_edited_configuration_is_named(folder: Path) -> None:
    path = folder / "verdict.json"
    document = json.loads(path.read_text())
    document["spec"]["precision"] = "bfloat16"
    path.write_text(json.dumps(document))
    assert recompute(folder).differences == (
        "verdict.spec.precision: 'bfloat16' stored, 'float32' recomputed",
    )


def made_older(folder: Path) -> Path:
    """As packages were before contents were counted.

    No held-out rows, no named answers, no content in the evidence.
    """
    evidence = read_evidence(folder / "evidence.parquet")
    rows = {
        system: tuple(row.model_copy(update={"content": None}) for row in same)
        for system, same in evidence.rows.items()
    }
    write_evidence(
        folder / "evidence.parquet",
        evidence.model_copy(update={"rows": rows, "made_by": {}}),
    )
    card = Scorecard.read(folder / "scorecard.json")
    bias = card.bias.model_copy(
        update={
            "refusal_difference": None,
            "groups": tuple(
                each.model_copy(update={"refused": None}) for each in card.bias.groups
            ),
        }
    )
    evidence_digest = FileDigest.of(folder / "evidence.parquet")
    card = card.model_copy(
        update={
            "contents": None,
            "groups": None,
            "named_answers": None,
            "bias": bias,
            "evidence": evidence_digest,
        }
    )
    trials.write_verdict(folder, card)
    for name in ("held_out.jsonl", "named_answers.jsonl"):
        (folder / name).unlink()
    return folder


def test_of_an_older_package_all_that_it_holds_is_recomputed(folder: Path) -> None:
    assert not is_older(Scorecard.read(folder / "scorecard.json"))
    made_older(folder)
    assert is_older(Scorecard.read(folder / "scorecard.json"))
    assert any(
        "cannot be recomputed" in difference
        for difference in recompute(folder).differences
    )
    assert older_differences(folder, trials.POLICY) == ()


def test_an_older_package_that_was_edited_or_that_fails_today_is_named(
    folder: Path,
) -> None:
    made_older(folder)
    stricter = folder / "stricter.yaml"
    stricter.write_text(
        trials.POLICY.read_text().replace("min_clusters: 20", "min_clusters: 40")
    )
    (short,) = older_differences(folder, stricter)
    assert short.startswith("by the policy that holds now: 30 clusters")
    adapter = read_evidence(folder / "evidence.parquet").rows["adapter"][0]
    edit_evidence(
        folder,
        row=adapter.row.model_copy(
            update={"prediction": adapter.row.references[0] + " x"}
        ),
    )
    assert any(
        difference.startswith("evidence.adapter.")
        for difference in older_differences(folder, trials.POLICY)
    )


@pytest.mark.parametrize("other", ["c" * 64, None])
def test_evidence_names_the_adapter_that_gave_the_answers(
    folder: Path, other: str | None
) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    makers = {
        **evidence.made_by,
        "adapter": evidence.made_by["adapter"].with_adapter(other),
    }
    write_evidence(
        folder / "evidence.parquet", evidence.model_copy(update={"made_by": makers})
    )
    card = Scorecard.read(folder / "scorecard.json").model_copy(
        update={"evidence": FileDigest.of(folder / "evidence.parquet")}
    )
    trials.write_verdict(folder, card)
    found = recompute(folder).differences
    assert any(
        difference.startswith("evidence.adapter: adapter ") for difference in found
    )
    assert (
        "evidence.adapter: it was made in another configuration than the scorecard names"
        in found
    )


def test_evidence_that_does_not_name_what_answered_is_said(folder: Path) -> None:
    evidence = read_evidence(folder / "evidence.parquet")
    write_evidence(
        folder / "evidence.parquet", evidence.model_copy(update={"made_by": {}})
    )
    card = Scorecard.read(folder / "scorecard.json").model_copy(
        update={"evidence": FileDigest.of(folder / "evidence.parquet")}
    )
    trials.write_verdict(folder, card)
    named = [
        f"evidence.{system}: it does not name what answered" for system in evidence.rows
    ]
    assert set(named) <= set(recompute(folder).differences)
