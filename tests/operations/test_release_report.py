"""The page of a version: whole, by itself, and nothing of anybody's data is markup in it."""

import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flows.judgement import Judgement
from operations.gate_report.markdown import to_markdown
from operations.gate_report.report import report_of_judgement
from operations.history import History, HistoryEntry
from operations.release_report.facts import collect_facts
from operations.release_report.page import render_page
from operations.release_report.publish import report_address
from pipelines.scoring.evidence_file import EvidenceRow, read_evidence, write_evidence
from pipelines.values.dataset import GroupRate, Interval, Prompt
from pipelines.values.evidence import Scorecard
from pipelines.values.verdict import (
    Finalist,
    Finding,
    Rejection,
    Undecided,
    read_screen_verdict,
)
from registry.ledger.ledger import open_ledger
from registry.mlflow.recorded import ModelVersion
from registry.release.canary_series import CanaryLook
from registry.report.curves import Curve, CurvePoint, draw_curve
from registry.report.html import cut, shown
from registry.report.plot import thin_out
from tests.support import trials
from tests.support.canaries import counts, report
from tests.support.html_page import HOSTILE, HTML, Page

AT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
UNDECIDED = Undecided(
    gate="judge",
    findings=(
        Finding(rule="screen", outcome="passed", text="all passed"),
        Finding(rule="approvals", outcome="undecided", text=f"0 of 1 {HOSTILE}"),
    ),
    policy_sha256="p" * 64,
)


@pytest.fixture
def folder(scored_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored_folder, tmp_path / "package"))


def judgement_of(folder: Path, verdict: Undecided | Rejection = UNDECIDED) -> Judgement:
    finalist = read_screen_verdict(folder / "verdict.json")
    assert isinstance(finalist, Finalist), finalist
    version = ModelVersion(
        name="support",
        version="3",
        run_id="run",
        package_sha256="c" * 64,
        logical_run="work",
    )
    return Judgement(
        version=version,
        finalist=finalist,
        package=folder,
        verdict=verdict,
        ledger_state=open_ledger(folder.parent / "home").state(),
        is_recorded=False,
    )


def entry(**changes: object) -> HistoryEntry:
    facts: dict[str, object] = {
        "generation": 2,
        "at": AT,
        "kind": "release_begun",
        "words": "release begun",
        "model": "support",
        "version": "3",
        "by": "ann",
        "reason": "it is better",
        "reason_sha256": "0" * 64,
    }
    return HistoryEntry.model_validate(facts | changes)


def page_of(
    folder: Path, *entries: HistoryEntry, **more: Undecided | Rejection
) -> Page:
    judgement = judgement_of(folder, **more)
    facts = collect_facts(judgement, History(entries, None), folder.parent / "home", AT)
    text = render_page(facts)
    assert len(text.encode()) < 2_000_000
    assert "http" not in text.replace("http-equiv", "")
    return Page(text)


def test_the_sentence_the_scores_and_the_events_are_on_the_page(folder: Path) -> None:
    waived = entry(
        generation=1, kind="waived", words="rule approvals waived", version=None
    )
    other = entry(generation=3, version="4", reason="about another version")
    erased = entry(generation=4, reason=None, by=None)
    page = page_of(folder, waived, entry(), other, erased)
    assert (
        "Version 3 of support is not yet fit for release: "
        "1 of 2 rules is undecided (approvals)." in page.words
    )
    for words in ("rule approvals waived", "it is better", "ann", "reason erased"):
        assert words in page.words, words
    assert "about another version" not in page.words
    assert "There was no champion to compare with." in page.words
    card = Scorecard.read(folder / "scorecard.json")
    for digest in (card.evidence.sha256, card.adapter.sha256, card.spec.fingerprint):
        assert digest in page.words


def test_a_canary_is_drawn_over_time_beside_its_baseline(folder: Path) -> None:
    assert 'id="canaries"' not in page_of(folder, entry()).text
    home = folder.parent / "home"
    lines = [
        CanaryLook(
            at=AT + timedelta(seconds=number),
            weight=5 if number < 3 else 25,
            report=report(2, 7, candidate=counts(10 * number), baseline=counts(0)),
        ).model_dump_json()
        for number in range(6)
    ]
    (home / "canaries").mkdir()
    # Half a line is what a driver that was killed leaves.
    kept = "\n".join([*lines, lines[0][:50]])
    (home / "canaries" / "2.jsonl").write_text(kept)
    page = page_of(folder, entry())
    assert 'id="canaries"' in page.text
    assert (
        "Release of entry 2: 50 requests of the candidate and 0 of the base"
        in page.words
    )
    for title in ("errors", "latency, median", "characters, median"):
        assert title in page.words
    assert page.text.count('class="line candidate"') == 6
    # A side without a request has no line, and not one at zero.
    assert 'class="line baseline"' not in page.text
    # Where the candidate's share changed, in each of the six pictures.
    assert page.text.count(">25 %<") == 6


def test_an_edited_file_of_counts_ends_no_report(folder: Path) -> None:
    (folder.parent / "home" / "canaries").mkdir(parents=True)
    # More errors than requests, and more than a float can hold.
    many = counts(1).model_copy(update={"errors": 10**400})
    seen = report(2, 7, candidate=many, baseline=counts(1))
    # A line ends there for Python, and not for JSON.
    seen = seen.model_copy(update={"replay_detail": "one\u2028two"})
    line = CanaryLook(at=AT, weight=5, report=seen).model_dump_json()
    (folder.parent / "home" / "canaries" / "2.jsonl").write_text(line)
    page = page_of(folder, entry())
    assert "Release of entry 2: 1 requests of the candidate" in page.words
    assert ">110 %<" in page.text


@pytest.mark.parametrize(("looks", "drawn"), [(299, 299), (300, 300), (301, 151)])
def test_a_curve_has_every_look_up_to_as_many_as_can_be_told_apart(
    looks: int, drawn: int
) -> None:
    points = tuple(CurvePoint(float(number), 1.0, None) for number in range(looks))
    picture = draw_curve(Curve("errors", " %", points), ())
    path = picture.partition('class="line candidate" d="M')[2].partition('"')[0]
    assert len(path.split("L")) == drawn
    # The last one decided.
    assert path.split("L")[-1].startswith("348")


def test_each_judged_metric_has_a_plot_of_systems_and_one_of_prompts(
    folder: Path,
) -> None:
    page = page_of(folder)
    assert "chrf, primary metric" in page.words
    assert "bits_per_byte, guardrail" in page.words
    assert "Dashed: 0.05 may be lost." in page.words
    metrics = page.words.count(", guardrail") + 1
    assert page.tags.count("svg") == 2 * metrics >= 10
    assert (
        "chrf of each prompt against few_shot, sorted: 60 better, 0 worse" in page.words
    )
    assert "0 of 60 prompts got worse than few_shot by chrf." in page.words


def test_whatever_a_field_holds_is_text(folder: Path) -> None:
    trials.rewrite_evidence(folder, trials.HostileTexts(HOSTILE))
    page = page_of(folder, entry(reason=HOSTILE, by=HOSTILE, words=HOSTILE))
    assert HTML in page.words
    assert "=cmd|" in page.words
    assert r"\u0000\u001b\u202e&amp;</p></body>" in page.words
    assert "<script" not in page.text


def test_the_worst_answers_stand_side_by_side_with_the_champions(
    tmp_path: Path,
) -> None:
    folder = with_champion(tmp_path)
    page = page_of(folder)
    assert (
        "prompts got worse than champion by chrf. These are the 10 worst." in page.words
    )
    assert page.words.count("this version's answer") == 10
    assert page.words.count("champion's answer") == 10
    assert "task 0 " in page.words, "the prompt's own text"
    assert page.tags.count("h4") == 40


def mostly_right(prompt: Prompt, dice: random.Random) -> str:
    """Right for two prompts of three, which is better than the champion on the whole."""
    answer = trials.right if int(prompt.id, 16) % 3 else trials.wrong
    return answer(prompt, dice)


def seldom_right(prompt: Prompt, dice: random.Random) -> str:
    answer = trials.wrong if int(prompt.id, 16) % 3 else trials.right
    return answer(prompt, dice)


def with_champion(tmp_path: Path) -> Path:
    folder = tmp_path / "package"
    held_out = trials.rows(120, 60)
    systems = {
        "base": (trials.wrong, 4.0),
        "few_shot": (trials.wrong, 3.0),
        "champion": (seldom_right, 3.0),
        "adapter": (mostly_right, 2.0),
    }
    trials.write_folder(folder, trials.trial(systems, held_out), held_out)  # type: ignore[arg-type]
    return folder


def test_long_texts_are_cut_and_say_how_much_more_there_is(folder: Path) -> None:
    trials.rewrite_evidence(folder, trials.HostileTexts("long " * 20_000))
    page = page_of(folder, *(entry(reason="why " * 500) for _ in range(900)))
    assert "700 earlier entries" in page.words
    assert "1,600 more characters" in page.words
    assert cut("x" * 800) == "x" * 800
    assert cut("<" * 801).endswith("… 1 more characters</em>")


def test_without_prompts_groups_or_another_system_the_page_says_so(
    folder: Path,
) -> None:
    for name in ("held_out.jsonl", "bias_report.json"):
        (folder / name).unlink()
    card = Scorecard.read(folder / "scorecard.json")
    bias = card.bias.model_copy(update={"groups": (), "insufficient": ()})
    card.model_copy(update={"bias": bias}).write(folder / "scorecard.json")
    page = page_of(folder)
    assert "There are no groups to compare." in page.words
    assert "The ledger holds no entry about this version." in page.words


def test_a_scorecard_without_systems_has_no_scores_to_show(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    card.model_copy(update={"systems": ()}).write(folder / "scorecard.json")
    assert "No system was scored." in page_of(folder).words
    empty = report_of_judgement(judgement_of(folder))
    assert "| metric | adapter" not in to_markdown(empty)


def test_groups_are_named_with_what_is_too_small(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    large = GroupRate(group=HOSTILE, n=30, rate=0.5, score=31.5, refused=0.0)
    small = GroupRate(group="few", n=3, rate=None, score=None)
    bias = card.bias.model_copy(
        update={
            "groups": (large, small),
            "insufficient": ("few",),
            "score_difference": Interval(estimate=1.5, low=0.1, high=3.25),
        }
    )
    card.model_copy(update={"bias": bias}).write(folder / "scorecard.json")
    page = page_of(folder)
    assert "few (insufficient: under 20 rows)" in page.words
    assert "difference in score between groups: 1.5 [0.1, 3.25]" in page.words
    assert HTML in page.words


def test_one_prompt_and_no_bars_to_draw(tmp_path: Path, folder: Path) -> None:
    assert thin_out(()) == ()
    assert thin_out((1.0,)) == (1.0,)
    bars = thin_out(tuple(float(number) for number in range(1000)))
    assert len(bars) == 300
    assert list(bars) == sorted(bars)
    assert sum(bars) / 300 == pytest.approx(499.5, abs=1)
    evidence = read_evidence(folder / "evidence.parquet")
    rows = {system: same[:1] for system, same in evidence.rows.items()}
    one = evidence.model_copy(update={"rows": rows})
    write_evidence(folder / "evidence.parquet", one)
    page = page_of(folder)
    assert "sorted: 1 better, 0 worse, 0 equal, of 1 prompts." in page.words


def test_a_rejection_names_what_rejects(folder: Path) -> None:
    findings = (Finding(rule="revoked", outcome="rejected", text="for good"),)
    rejected = Rejection(gate="judge", findings=findings, policy_sha256="p" * 64)
    page = page_of(folder, verdict=rejected)
    assert "is rejected: 1 of 1 rules is rejected (revoked)." in page.words
    assert 'class="sentence rejected"' in page.text


def test_line_ends_and_joiners_stay_and_what_is_invisible_is_spelt_out() -> None:
    assert shown("a\r\nb\tc\u2028d") == "a\nb\tc\nd"
    assert shown("می\u200cروم") == "می\u200cروم"
    assert shown("a\u200b\ud800\ue000") == r"a\u200b\ud800\ue000"
    shown("\ud800").encode()


def test_a_row_that_no_metric_can_count_alone_is_left_out_and_said(
    folder: Path,
) -> None:
    evidence = read_evidence(folder / "evidence.parquet")

    def without_tokens(row: EvidenceRow) -> EvidenceRow:
        zeros = tuple(0.0 for _ in row.statistics["perplexity_per_token"])
        statistics = {**row.statistics, "perplexity_per_token": zeros}
        return row.model_copy(update={"statistics": statistics})

    rows = {
        system: (without_tokens(same[0]), *same[1:])
        for system, same in evidence.rows.items()
    }
    changed = evidence.model_copy(update={"rows": rows})
    write_evidence(folder / "evidence.parquet", changed)
    page = page_of(folder)
    assert "of 60 prompts. 1 have no number of their own." in page.words


def test_a_report_has_an_address_only_where_a_server_has_pages() -> None:
    version = ModelVersion(
        name="letters",
        version="3",
        run_id="a1",
        package_sha256="c" * 64,
        logical_run="d" * 64,
    )
    assert report_address(version, "sqlite:////home/mlflow.db") is None
    assert report_address(version, "https://mlflow.example") == (
        "https://mlflow.example/get-artifact?path=release_report/letters-3.html&run_uuid=a1"
    )
