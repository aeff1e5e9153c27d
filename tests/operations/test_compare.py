"""Two versions or runs on what both answered: with bounds, or with the reason why not."""

import json
import random
import shutil
from pathlib import Path

import pytest

from core.errors import DamagedFile, ParameterError
from operations.compare.differ import Comparing, TwoSides, compare_sides
from operations.compare.page import render_comparison
from operations.compare.sides import find_side
from pipelines.scoring.evidence_file import EvidenceRow, read_evidence, write_evidence
from pipelines.values.dataset import Prompt, write_rows
from pipelines.values.evidence import Scorecard, System
from pipelines.values.verdict import Finalist, read_screen_verdict
from tests.support import trials
from tests.support.commands import assay
from tests.support.html_page import HOSTILE, HTML, Page

ROWS = trials.rows(48, 24)


def often_right(prompt: Prompt, dice: random.Random) -> str:
    answer = trials.right if int(prompt.id, 16) % 3 else trials.wrong
    return answer(prompt, dice)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`worse` answers two thirds as `better` does, on the same prompts."""
    root = tmp_path_factory.mktemp("sides")
    for name, answer in (("worse", often_right), ("better", trials.right)):
        systems: dict[System, tuple[trials.Answer, float]] = {
            "base": (trials.wrong, 4.0),
            "few_shot": (trials.wrong, 3.0),
            "adapter": (answer, 2.0),
        }
        trials.write_folder(root / name, trials.trial(systems, ROWS), ROWS)
    return root


@pytest.fixture
def sides(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders, tmp_path / "sides"))


def comparing(sides: Path, first: str = "worse", second: str = "better") -> Comparing:
    return Comparing(find_side(str(sides / first)), find_side(str(sides / second)))


def compare(sides: Path, first: str = "worse", second: str = "better") -> TwoSides:
    return compare_sides(comparing(sides, first, second))


def keep(folder: Path, first: int, last: int) -> None:
    """Leave only these prompts in a folder's evidence."""
    path = folder / "evidence.parquet"
    evidence = read_evidence(path)
    rows = {system: same[first:last] for system, same in evidence.rows.items()}
    write_evidence(path, evidence.model_copy(update={"rows": rows}))
    trials.name_evidence(folder)


def test_what_is_better_is_better_the_one_way_and_worse_the_other(sides: Path) -> None:
    there, back = compare(sides), compare(sides, "better", "worse")
    chrf, other = there.metrics[0], back.metrics[0]
    assert (chrf.metric, chrf.says, other.says) == ("chrf", "better", "worse")
    assert 0 < chrf.low < chrf.difference < chrf.high
    assert other.difference == pytest.approx(-chrf.difference)
    assert (there.shared, there.clusters) == (48, 24)
    assert {each.prompt_id for each in there.better} == {
        each.prompt_id for each in back.worse
    }
    assert all(each.difference > 0 for each in there.better)
    assert all(each.difference < 0 for each in there.worse)


def test_a_side_against_itself_differs_by_nothing(sides: Path) -> None:
    found = compare(sides, "better", "better")
    assert {each.says for each in found.metrics} == {"not shown to differ"}
    assert (found.better, found.worse) == ((), ())


def test_a_lower_perplexity_is_better(sides: Path) -> None:
    def likelier(row: EvidenceRow) -> EvidenceRow:
        nats, tokens = row.statistics["perplexity_per_token"]
        statistics = {**row.statistics, "perplexity_per_token": (nats / 2, tokens)}
        return row.model_copy(update={"statistics": statistics})

    trials.rewrite_evidence(sides / "better", likelier)
    found = compare(sides)
    (perplexity,) = [
        each for each in found.metrics if each.metric == "perplexity_per_token"
    ]
    assert perplexity.says == "better"
    assert perplexity.second.estimate < perplexity.first.estimate
    assert perplexity.difference > 0


def test_only_the_prompts_of_both_count(sides: Path) -> None:
    keep(sides / "worse", 0, 40)
    keep(sides / "better", 10, 48)
    found = compare(sides)
    assert (found.shared, found.only_first, found.only_second) == (30, 10, 8)


def test_a_prompt_with_other_references_is_another_question(sides: Path) -> None:
    def other_reference(row: EvidenceRow) -> EvidenceRow:
        if row.group != "group-3":
            return row
        scored = row.row.model_copy(update={"references": ("something else",)})
        return row.model_copy(update={"row": scored})

    trials.rewrite_evidence(sides / "better", other_reference)
    found = compare(sides)
    assert (found.shared, found.changed) == (46, 2)
    assert (found.only_first, found.only_second) == (0, 0)


@pytest.mark.parametrize(("last", "clusters"), [(9, 9), (1, 1), (0, 0)])
def test_hardly_a_prompt_in_common_is_refused(
    sides: Path, last: int, clusters: int
) -> None:
    keep(sides / "worse", 0, last or 20)
    if not last:
        keep(sides / "better", 20, 48)
    with pytest.raises(ParameterError, match=f"in {clusters} clusters; under 10"):
        compare(sides)


def test_ten_clusters_are_enough(sides: Path) -> None:
    keep(sides / "worse", 0, 10)
    assert compare(sides).clusters == 10


@pytest.mark.parametrize("statistics", [None, 1, 3])
def test_other_statistics_are_refused(sides: Path, statistics: int | None) -> None:
    path = sides / "worse/verdict.json"
    verdict = read_screen_verdict(path)
    assert isinstance(verdict, Finalist) or verdict.comparisons
    verdict.model_copy(update={"statistics": statistics}).write(path)
    with pytest.raises(ParameterError, match="worse was judged by statistics"):
        compare(sides)


def sign(folder: Path, metric: str, signature: str) -> None:
    """Have a folder's scorecard say that a metric was counted otherwise."""
    card = Scorecard.read(folder / "scorecard.json")
    systems = []
    for system in card.systems:
        metrics = [
            each.model_copy(update={"signature": signature})
            if metric in (each.name, "all")
            else each
            for each in system.metrics
        ]
        systems.append(system.model_copy(update={"metrics": tuple(metrics)}))
    card.model_copy(update={"systems": tuple(systems)}).write(folder / "scorecard.json")


def test_a_metric_that_was_counted_otherwise_is_named_and_left_out(sides: Path) -> None:
    sign(sides / "worse", "command_validity", "parser:bash -n|version:1.0")
    found = compare(sides)
    assert "command_validity: it was counted in two ways" in found.not_compared
    assert "command_validity" not in [each.metric for each in found.metrics]


def test_without_one_metric_that_was_counted_alike_it_is_refused(sides: Path) -> None:
    sign(sides / "worse", "all", "another way")
    with pytest.raises(ParameterError, match="No metric of worse and better"):
        compare(sides)


def test_other_tokens_make_no_perplexities_to_compare(sides: Path) -> None:
    def other_tokens(row: EvidenceRow) -> EvidenceRow:
        losses = tuple(
            loss.model_copy(update={"tokens": loss.tokens + 1})
            for loss in row.row.losses
        )
        scored = row.row.model_copy(update={"losses": losses})
        return row.model_copy(update={"row": scored})

    trials.rewrite_evidence(sides / "better", other_tokens)
    refused = compare(sides).not_compared
    assert "perplexity_per_token: it was counted in two ways" in refused
    assert not any(each.startswith("bits_per_byte") for each in refused)


def test_a_number_that_is_none_is_no_difference(sides: Path) -> None:
    def without_number(row: EvidenceRow) -> EvidenceRow:
        width = len(row.statistics["bits_per_byte"])
        nothing = tuple(float("nan") for _ in range(width))
        return row.model_copy(
            update={"statistics": {**row.statistics, "bits_per_byte": nothing}}
        )

    trials.rewrite_evidence(sides / "better", without_number)
    found = compare(sides)
    assert any(each.startswith("bits_per_byte: ") for each in found.not_compared)
    # JSON has no such number: it would be refused by whoever reads the line.
    json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert Page(render_comparison(comparing(sides), found)).words


def test_the_page_is_whole_and_every_text_is_text(sides: Path) -> None:
    for name in ("worse", "better"):
        trials.rewrite_evidence(sides / name, trials.HostileTexts(HOSTILE))
    both = comparing(sides)
    found = compare_sides(both)
    text = render_comparison(both, found)
    page = Page(text)
    assert "http" not in text.replace("http-equiv", "")
    assert HTML in page.words
    assert "<script" not in page.text
    assert "better's answer" in page.words
    assert "worse's answer" in page.words
    assert "What got worse" in page.words
    for heading in ("Metrics", "Parts of the prompts", "What this does not say"):
        assert heading in page.words


def test_rows_of_a_block_are_never_read(sides: Path) -> None:
    sealed = "SEALED-ROW"
    for name in ("worse", "better"):
        inside = sides / name / "confirmation"
        inside.mkdir()
        rows = [
            row.model_copy(update={"completion": sealed, "group": sealed})
            for row in trials.rows(4, 4, seed=9)
        ]
        write_rows(inside / "rows.jsonl", rows)
        (inside / "evidence.parquet").write_text(sealed, encoding="utf-8")
    both = comparing(sides)
    found = compare_sides(both)
    assert sealed not in render_comparison(both, found)
    assert sealed not in found.model_dump_json()


def test_evidence_that_its_scorecard_does_not_name_is_refused(sides: Path) -> None:
    path = sides / "worse/evidence.parquet"
    evidence = read_evidence(path)
    rows = {system: same[:-1] for system, same in evidence.rows.items()}
    write_evidence(path, evidence.model_copy(update={"rows": rows}))
    with pytest.raises(DamagedFile, match="has changed since it was recorded"):
        find_side(str(sides / "worse"))


@pytest.mark.parametrize("name", ["nowhere", "\x1b[31mred", "."])
def test_what_names_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="names nothing that was scored") as raised:
        find_side(str(tmp_path / "empty" / name))
    assert "\x1b" not in str(raised.value)


def test_the_command_prints_a_table_and_a_line_for_programs(sides: Path) -> None:
    page = sides / "page.html"
    result = assay(
        *("compare", str(sides / "worse"), str(sides / "better")),
        *("--json", "--html", str(page)),
    )
    assert result.exit_code == 0, result.output
    assert "better is better in chrf" in result.output
    last = json.loads(result.output.strip().splitlines()[-1])
    assert last["shared"] == 48
    assert last["metrics"][0]["metric"] == "chrf"
    assert Page(page.read_text(encoding="utf-8")).tags.count("svg") >= 5


def test_the_command_refuses_in_a_sentence(sides: Path) -> None:
    result = assay("compare", str(sides / "worse"), str(sides / "nowhere"))
    assert result.exit_code == 1
    assert "names nothing that was scored" in result.output
