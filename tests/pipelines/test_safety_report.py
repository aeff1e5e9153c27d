"""What is counted of the probes of safety, and which answers it does not follow from."""

import math
import random
from pathlib import Path

import pytest

from core.errors import IncompleteEvidence, ParameterError
from core.value import FileDigest
from pipelines.rows.refusals import is_refusal
from pipelines.safety.files import read_canaries, read_pairs, read_refusal_prompts
from pipelines.safety.report import report_safety
from pipelines.safety.scored import FILE, safety_of
from pipelines.safety.secrets import Canary
from pipelines.safety.verbatim import longest_common
from pipelines.statistics.cluster_means import (
    bounded_mean,
    difference_of_means,
    mean_by_cluster,
)
from pipelines.values.dataset import Interval
from pipelines.values.params import Params, SafetyParams
from pipelines.values.safety import SafetyAnswers, ShareDifference
from tests.support import probed, trials


def asking(**safety: object) -> Params:
    settings = SafetyParams.model_validate(safety)
    return trials.params().model_copy(update={"safety": settings})


# Bounds.


def test_clusters_that_all_agree_leave_room_for_what_was_not_seen() -> None:
    zeros = bounded_mean([0.0] * 40)
    assert zeros.estimate == 0
    # The rule of three says 3 / 40.
    assert zeros.high == pytest.approx(3 / 40, abs=0.01)
    assert zeros.low == -zeros.high
    ones = bounded_mean([1.0] * 20)
    assert (ones.high, ones.low < 1) == (1, True)


@pytest.mark.parametrize(("worse", "better"), [(0.05, 0.05), (0.2, 0.0), (0.3, 0.1)])
def test_the_bound_is_missed_as_seldom_as_it_says(worse: float, better: float) -> None:
    dice = random.Random(7)
    truth = worse - better
    missed = 0
    for _ in range(600):
        drawn = [dice.random() for _ in range(40)]
        means = [float(each < worse) - float(each > 1 - better) for each in drawn]
        missed += not truth <= bounded_mean(means).high
    assert missed / 600 <= 0.04


@pytest.mark.parametrize("mean", [math.nan, 1.1, -1.1, math.inf])
def test_a_mean_outside_of_the_scale_has_no_bounds(mean: float) -> None:
    with pytest.raises(IncompleteEvidence, match="not between -1 and 1"):
        bounded_mean([0.0, mean])
    with pytest.raises(IncompleteEvidence, match="no clusters"):
        bounded_mean([])


def test_many_items_of_one_cluster_count_as_one() -> None:
    means = mean_by_cluster(["a", "a", "b", "a"], [1, 1, 0, 0.25])
    assert means == [0.75, 0]


def test_a_difference_of_samples_is_wider_than_either() -> None:
    one = Interval(estimate=0.5, low=0.2, high=0.8)
    other = Interval(estimate=0.1, low=-0.3, high=0.5)
    found = difference_of_means(one, other)
    expected = (0.4, 0.4 - 0.5, 0.4 + 0.5)
    assert (found.estimate, found.low, found.high) == pytest.approx(expected)


# The report.


def test_shares_are_of_each_system_and_compared_prompt_by_prompt() -> None:
    refused, answered = report_safety(
        probed.refusal_probe(harmless=range(10), to_refuse=range(30)), None
    ).shares
    assert (refused.quantity, refused.own, refused.other) == ("refused", 0.25, 0)
    assert (answered.quantity, answered.own, answered.other) == ("answered", 0.25, 0)
    assert refused.difference.estimate == pytest.approx(0.25)
    assert (refused.items, refused.clusters) == (40, 40)


def test_pairs_of_one_cluster_count_as_one_and_equal_losses_as_half() -> None:
    probe = probed.pair_probe(range(60))
    together = probe.model_copy(
        update={
            "pairs": tuple(
                each.model_copy(update={"cluster": f"c{int(each.pair_id) % 5}"})
                for each in probe.pairs
            )
        }
    )
    (share,) = report_safety(together, None).shares
    assert (share.items, share.clusters, share.own, share.other) == (60, 5, 1, 0.5)
    even = probe.model_copy(
        update={
            "pairs": tuple(
                each.model_copy(update={"more": 2.0}) for each in probe.pairs
            )
        }
    )
    (share,) = report_safety(even, None).shares
    assert (share.own, share.other, share.difference.estimate) == (0.5, 0.5, 0)


def test_a_row_that_is_just_long_enough_can_be_found_again() -> None:
    probe = probed.row_probe(30)
    least = probe.least_common
    edge = [
        each.model_copy(
            update={
                "length": least,
                "common": least if each.system == "adapter" else least - 1,
            }
        )
        for each in probe.continuations
    ]
    changed = probe.model_copy(update={"continuations": tuple(edge)})
    found = report_safety(changed, None).memorisation
    assert found is not None
    assert (found.own["train"], found.base["train"]) == (1, 0)
    short = [each.model_copy(update={"length": least - 1}) for each in edge]
    with pytest.raises(IncompleteEvidence, match="too short a second half"):
        report_safety(probe.model_copy(update={"continuations": tuple(short)}), None)


def test_a_tie_of_losses_counts_against_a_secret() -> None:
    assert probed.canary("adapter", 3).rank == 3
    tied = probed.canary("adapter", 1).model_copy(update={"others": (5.0,) * 99})
    assert tied.rank == 1


def test_a_user_s_pattern_counts_as_a_refusal() -> None:
    probe = probed.refusal_probe()
    refused, _ = report_safety(probe, "^Take the first").shares
    assert (refused.own, refused.other) == (1, 1)


def without(answers: SafetyAnswers, field: str, place: int) -> SafetyAnswers:
    items = list(getattr(answers, field))
    del items[place]
    return answers.model_copy(update={field: tuple(items)})


@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize(
    ("field", "probe"),
    [
        ("refusals", probed.refusal_probe()),
        ("pairs", probed.pair_probe(())),
        ("continuations", probed.row_probe(0)),
        ("canaries", probed.canary_probe(100, 100)),
    ],
)
def test_an_item_that_one_system_lacks_or_has_twice_gives_no_report(
    field: str, probe: SafetyAnswers, place: int
) -> None:
    with pytest.raises(IncompleteEvidence, match="not about the same items"):
        report_safety(without(probe, field, place), None)
    items = getattr(probe, field)
    twice = probe.model_copy(update={field: (*items, items[place])})
    with pytest.raises(IncompleteEvidence, match="each once"):
        report_safety(twice, None)


@pytest.mark.parametrize("system", ["adapter", "base"])
def test_a_system_without_any_answer_gives_no_report(system: str) -> None:
    probe = probed.refusal_probe()
    kept = tuple(each for each in probe.refusals if each.system != system)
    with pytest.raises(IncompleteEvidence, match="not about the same items"):
        report_safety(probe.model_copy(update={"refusals": kept}), None)


@pytest.mark.parametrize("system", ["adapter", "base"])
def test_probes_of_one_system_alone_give_no_share(system: str) -> None:
    alone = probed.refusal_probe().model_copy(update={"systems": {system: None}})
    if system == "adapter":
        assert report_safety(alone, None).shares == ()
    else:
        with pytest.raises(IncompleteEvidence, match="not about the same items"):
            report_safety(alone, None)


def test_rows_that_are_too_short_give_no_report() -> None:
    probe = probed.row_probe(0).model_copy(update={"least_common": 51})
    with pytest.raises(IncompleteEvidence, match="too short a second half"):
        report_safety(probe, None)


def test_rows_of_one_part_alone_say_nothing_about_memory() -> None:
    probe = probed.row_probe(30)
    train = tuple(each for each in probe.continuations if each.part == "train")
    only = probe.model_copy(update={"continuations": train})
    assert report_safety(only, None).memorisation is None


def test_bounds_out_of_order_are_no_report() -> None:
    (share, _) = report_safety(probed.refusal_probe(), None).shares
    document = share.model_dump()
    document["difference"] = {"estimate": 0.5, "low": 0.6, "high": 0.7}
    with pytest.raises(ValueError, match="outside of its bounds"):
        ShareDifference.model_validate(document)


def test_score_keeps_the_answers_beside_the_report(tmp_path: Path) -> None:
    answers = probed.refusal_probe()
    scored = safety_of(answers, asking(refusals=True), tmp_path)
    assert scored.report == report_safety(answers, None)
    assert scored.answers == FileDigest.of(tmp_path / FILE)
    assert SafetyAnswers.read(tmp_path / FILE) == answers
    assert safety_of(None, asking(), tmp_path) == (None, None)


@pytest.mark.parametrize("answers", [None, probed.pair_probe(())])
def test_answers_to_other_probes_than_were_asked_for_are_no_evidence(
    answers: SafetyAnswers | None, tmp_path: Path
) -> None:
    with pytest.raises(IncompleteEvidence, match="are refusals, and other ones"):
        safety_of(answers, asking(refusals=True), tmp_path)


# Files.


def test_the_prompts_that_assay_brings_are_forty_of_each_kind() -> None:
    prompts = read_refusal_prompts(None)
    kinds = [prompt.kind for prompt in prompts]
    assert (kinds.count("harmless"), kinds.count("to_refuse")) == (40, 40)
    assert len({prompt.text for prompt in prompts}) == 80
    assert {prompt.licence for prompt in prompts} == {"Apache-2.0"}
    # A prompt that itself reads like a refusal would be counted wrongly when it is repeated.
    assert not any(is_refusal(prompt.text, None) for prompt in prompts)


def test_pairs_are_read_in_the_columns_of_crows_pairs_too(tmp_path: Path) -> None:
    crows = tmp_path / "crows.csv"
    crows.write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        '0,"Old people, all of them, drive badly.",Young people drive badly.,stereo,age\n'
        "1,He is late.,She is late.,antistereo,gender\n",
        encoding="utf-8",
    )
    first, second = read_pairs(crows)
    assert first.more == "Old people, all of them, drive badly."
    assert (second.id, second.cluster) == ("2", "2")
    lines = tmp_path / "own.jsonl"
    lines.write_text(
        '{"more": "a b", "less": "a c", "cluster": "x"}\n\n', encoding="utf-8"
    )
    assert read_pairs(lines)[0].cluster == "x"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("pairs.csv", "more,less\n", "holds 0 items"),
        ("pairs.csv", "more,less\na,a\n", "no two sentences that differ"),
        ("pairs.csv", "more,other\na,b\n", "is no Pair: less"),
        ("pairs.jsonl", "", "holds 0 items"),
        ("pairs.jsonl", "[1]\n", "cannot be read"),
        ("pairs.jsonl", "{\n", "cannot be read"),
        ("pairs.jsonl", "[" * 100_000, "cannot be read"),
    ],
    ids=["no-row", "same", "no-column", "empty", "no-table", "cut", "deep"],
)
def test_a_file_of_pairs_that_holds_none_is_refused(
    name: str, text: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParameterError, match=says):
        read_pairs(path)


def test_a_missing_file_and_ids_that_come_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot be read"):
        read_canaries(tmp_path / "none.jsonl")
    path = tmp_path / "prompts.jsonl"
    line = '{"id": "a", "kind": "harmless", "text": "b", "licence": "MIT"}\n'
    path.write_text(line * 2, encoding="utf-8")
    with pytest.raises(ParameterError, match="2 items with 1 different ids"):
        read_refusal_prompts(path)


def test_a_secret_stands_among_others_of_its_form() -> None:
    canary = Canary(id="a", prompt="Which code?", secret="Ab1-234-xyZ")
    others = canary.others(199)
    assert len({*others, canary.secret}) == 200
    assert others == canary.others(199)
    for other in others:
        assert [each.isdigit() for each in other] == [
            each.isdigit() for each in canary.secret
        ]
        assert (other[3], other[7], other[0].isupper()) == ("-", "-", True)


@pytest.mark.parametrize("secret", ["12345", "1-2-3-4-5-", "äöüßéê"])
def test_a_secret_with_few_letters_and_digits_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        Canary(id="a", prompt="Which code?", secret=secret)


def test_the_longest_run_is_counted_in_long_texts_too() -> None:
    text = "tar -xzf archive.tar.gz -C /srv " * 30
    assert longest_common(f"well, {text}", text) == len(text)
    assert longest_common("abc", "xyz") == 0
    assert longest_common("", "xyz") == 0


def test_files_are_plain_names_in_the_folder(tmp_path: Path) -> None:
    params = SafetyParams(stereotype_pairs="pairs.csv", canaries="mine.jsonl")
    assert params.files == (Path("safety/pairs.csv"), Path("safety/mine.jsonl"))
    assert params.asked == ("stereotypes", "canaries")
    for name in ("../pairs.csv", "/etc/passwd", "a/b.csv", "x.txt", ".csv"):
        with pytest.raises(ValueError, match="stereotype_pairs"):
            SafetyParams(stereotype_pairs=name)
