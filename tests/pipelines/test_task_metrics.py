"""Metrics of tasks: classes, JSON, tool calls and short answers count what they say."""

import json
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.metrics import Metric, ScoredRow, metric_named
from pipelines.metrics.json_answers import (
    DEEPEST,
    LONGEST,
    is_json,
    leaves,
    strip_fence,
)
from pipelines.metrics.label_f1 import MOST_LABELS, LabelF1, for_references, list_labels
from pipelines.metrics.labels import normalise_label
from pipelines.metrics.rouge_l import RougeL, longest_common
from pipelines.metrics.squad_exact_match import normalise_answer
from pipelines.metrics.tool_call import find_calls
from pipelines.scoring.scores import with_statistics
from tests.support import trials

TASKS = (
    "label_accuracy",
    "label_f1",
    "json_valid",
    "json_field_f1",
    "tool_call",
    "squad_exact_match",
    "rouge_l",
)


def scored(prediction: str, *references: str) -> ScoredRow:
    return ScoredRow(prompt_id="p", prediction=prediction, references=references)


def score(metric: Metric, rows: Sequence[ScoredRow]) -> float:
    sums = np.array([metric.row_statistics(row) for row in rows]).sum(axis=0)
    return float(metric.corpus(sums))


def score_one(name: str, prediction: str, *references: str) -> float:
    return score(metric_named(name), [scored(prediction, *references)])


# --- JSON


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": 1}', True),
        (" [1, null, true] \n", True),
        ("3", True),
        ('```json\n{"a": 1}\n```', True),
        ("```\n[]\n```", True),
        ('Here it is:\n```json\n{"a": 1}\n```', False),
        ('{"a": 1} {"b": 2}', False),
        ('{"a": 1, "a": 1}', False),
        ('{"x": [{"a": 1, "a": 2}]}', False),
        ("NaN", False),
        ("[Infinity]", False),
        ("[-Infinity]", False),
        ("1e999", False),
        ("-1e999", False),
        ("1" * 5000, False),
        ("", False),
        ("```", False),
        ("{'a': 1}", False),
        ('{"a": 1,}', False),
        ("[" * DEEPEST + "]" * DEEPEST, True),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), False),
        ("[" * 100_000, False),
        (json.dumps("[" * 1000), True),
        (json.dumps('\\"[{' * 100), True),
        (json.dumps("x" * (LONGEST - 2)), True),
        (json.dumps("x" * (LONGEST - 1)), False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_is_what_every_reader_reads_in_the_same_way(
    text: str, *, valid: bool
) -> None:
    assert is_json(text) is valid
    assert score_one("json_valid", text, "{}") == valid


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ('{"a": 1}', '{"a": 1.0}', 1.0),
        ('{"a": true}', '{"a": 1}', 0.0),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ('{"a": null}', '{"a": ""}', 0.0),
        ('{"a": 9007199254740993}', '{"a": 9007199254740992.0}', 0.0),
        ('{"b": 2, "a": 1}', '{"a": 1, "b": 2}', 1.0),
        ('{"a": 1}', '{"a": 1, "b": 2}', 2 / 3),
        ('{"a": 1, "b": 3}', '{"a": 1, "b": 2}', 0.5),
        ('{"a": {"b": 1}}', '{"a/b": 1}', 0.0),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', 0.0),
        ('{"a": []}', '{"a": {}}', 0.0),
        ("{}", "{}", 1.0),
        ("no JSON", '{"a": 1}', 0.0),
        ("", '{"a": 1}', 0.0),
        ("same text", "same text", 1.0),
    ],
)
def test_fields_count_by_path_kind_and_value(
    answer: str, reference: str, expected: float
) -> None:
    assert score_one("json_field_f1", answer, reference) == pytest.approx(expected)


def test_field_f1_counts_over_all_answers_and_takes_the_nearest_reference() -> None:
    metric = metric_named("json_field_f1")
    rows = [
        scored('{"a": 1, "b": 2}', '{"a": 9}', '{"a": 1, "b": 3}'),
        scored("[1]", "[1]"),
    ]
    assert metric.row_statistics(rows[0]) == (1.0, 2.0, 2.0)
    assert score(metric, rows) == pytest.approx(4 / 6)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(DOCUMENTS)
@settings(max_examples=40)
def test_any_document_equals_itself_however_it_is_written(document: object) -> None:
    text = json.dumps(document)
    assert leaves(text) == leaves(f"```json\n{json.dumps(document, indent=2)}\n```")
    assert score_one("json_field_f1", text, text) == 1.0


# --- labels


def test_labels_are_compared_without_case_and_signs_around_them() -> None:
    assert normalise_label(" “Very  Positive”. ") == "very positive"
    assert normalise_label("ＳＰＡＭ") == "spam"
    assert score_one("label_accuracy", "Spam.", "spam", "ham") == 1.0
    assert score_one("label_accuracy", "It is spam", "spam") == 0.0
    assert score_one("label_accuracy", "", "spam") == 0.0


LABELS = st.sampled_from(["a", "b", "c", "d", "nonsense", ""])
PAIRS = st.lists(
    st.tuples(LABELS, st.sampled_from(["a", "b", "c", "d"])), min_size=1, max_size=25
)


@given(PAIRS)
@settings(max_examples=80)
def test_macro_f1_is_that_of_scikit_learn_over_the_classes_of_the_references(
    pairs: list[tuple[str, str]],
) -> None:
    from sklearn.metrics import f1_score  # type: ignore[import-untyped]

    rows = [scored(answer, wanted) for answer, wanted in pairs]
    references = [row.references for row in rows]
    metric = for_references(LabelF1(), references)
    theirs = f1_score(
        [wanted for _, wanted in pairs],
        [answer for answer, _ in pairs],
        labels=list_labels(references),
        average="macro",
        zero_division=0,
    )
    assert score(metric, rows) == pytest.approx(theirs, abs=1e-12)


def test_an_answer_that_always_names_the_frequent_class_has_a_low_f1() -> None:
    rows = [scored("no", "no")] * 95 + [scored("no", "yes")] * 5
    metric = for_references(LabelF1(), [row.references for row in rows])
    assert score(metric_named("label_accuracy"), rows) == 0.95
    assert score(metric, rows) == pytest.approx(0.4872, abs=1e-4)


def test_evidence_knows_every_class_of_its_references() -> None:
    rows = trials.evidence().rows
    flat = [row for of_system in rows.values() for row in of_system]
    counted = with_statistics(flat, [metric_named("label_f1")])
    widths = {
        len(row.statistics["label_f1"])
        for each in counted.rows.values()
        for row in each
    }
    labels = list_labels(counted.references)
    assert widths == {3 * (min(len(labels), MOST_LABELS) + 1)}
    sums = counted.statistics("adapter", "label_f1").sum(axis=0)
    fitted = for_references(LabelF1(), counted.references)
    answers = [row.row for row in counted.rows["adapter"]]
    assert metric_named("label_f1").corpus(sums) == score(fitted, answers)


# --- tool calls

CALL = '{"name": "find", "arguments": {"city": "Bern", "n": 2}}'


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (CALL, True),
        ('{"arguments": {"n": 2.0, "city": "Bern"}, "name": "find"}', True),
        (f"<tool_call>\n{CALL}\n</tool_call>", True),
        (f"[{CALL}]", True),
        (f'{{"tool_calls": [{{"type": "function", "function": {CALL}}}]}}', True),
        ('{"name": "find", "arguments": "{\\"city\\": \\"Bern\\", \\"n\\": 2}"}', True),
        (f"```json\n{CALL}\n```", True),
        ('{"name": "find", "arguments": {"city": "Bern"}}', False),
        ('{"name": "find", "arguments": {"city": "Bern", "n": true}}', False),
        ('{"name": "Find", "arguments": {"city": "Bern", "n": 2}}', False),
        (f"[{CALL}, {CALL}]", False),
        (f"<tool_call>{CALL}</tool_call><tool_call>broken</tool_call>", False),
        ("find(Bern)", False),
        ("", False),
        ('{"name": "", "arguments": {}}', False),
        ('{"name": "find", "arguments": [1]}', False),
        ('{"name": "find", "arguments": "no"}', False),
        ('{"function": {"arguments": {}}}', False),
        ("[[]]", False),
    ],
)
def test_calls_are_the_same_by_name_and_arguments(answer: str, *, right: bool) -> None:
    assert score_one("tool_call", answer, CALL) == right


def test_where_nothing_is_to_be_called_any_answer_without_a_call_is_right() -> None:
    assert score_one("tool_call", "Which city?", "Please name a city.") == 1.0
    assert score_one("tool_call", CALL, "Please name a city.") == 0.0
    assert find_calls('{"name": "now"}') == find_calls(
        '{"name": "now", "arguments": ""}'
    )


# --- short answers and summaries


def test_exact_match_normalises_as_squad_does() -> None:
    assert normalise_answer("The  Eiffel-Tower, (a) tower!") == "eiffeltower tower"
    assert score_one("squad_exact_match", "the answer.", "Answer") == 1.0
    assert score_one("squad_exact_match", "another", "other") == 0.0
    # Nothing equals nothing: such references make the metric inapplicable.
    assert metric_named("squad_exact_match").inapplicable([("the",), ("x",)])


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Computed with rouge-score 0.1.2, rougeL, without stemmer.
        ("the cat sat on the mat", "a cat is on the mat", 0.6666666666666666),
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("the gunman kill police", "police kill the gunman", 0.5),
        ("It's 5 o'clock, snake_case!", "its 5 o clock snake case", 0.7692307692307692),
        ("a a a b", "a b a", 0.5714285714285714),
        ("", "police", 0.0),
        ("...", "police", 0.0),
    ],
)
def test_rouge_l_is_that_of_rouge_score(
    answer: str, reference: str, expected: float
) -> None:
    assert score_one("rouge_l", answer, reference) == pytest.approx(expected, abs=1e-12)


def test_rouge_l_keeps_words_of_other_alphabets_and_takes_the_best_reference() -> None:
    assert score_one("rouge_l", "Größe über alles", "x", "größe über ALLES") == 1.0
    assert RougeL().row_statistics(scored("", "")) == (0.0, 1.0)


WORDS = st.lists(st.sampled_from("abc"), max_size=9)


@given(WORDS, WORDS)
@settings(max_examples=100)
def test_the_common_subsequence_is_the_longest(
    one: list[str], other: list[str]
) -> None:
    lengths = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            lengths[i + 1, j + 1] = (
                lengths[i, j] + 1
                if left == right
                else max(lengths[i, j + 1], lengths[i + 1, j])
            )
    assert longest_common(one, other) == lengths[-1, -1]


# --- where they apply, and what they share


@pytest.mark.parametrize(
    ("name", "fits", "fits_not"),
    [
        ("json_valid", '{"a": 1}', "no"),
        ("json_field_f1", '{"a": 1}', "no"),
        ("tool_call", CALL, '{"a": 1}'),
        ("squad_exact_match", "answer", "!"),
        ("rouge_l", "word", "!"),
    ],
)
def test_a_metric_says_where_half_of_the_references_are_not_of_its_kind(
    name: str, fits: str, fits_not: str
) -> None:
    metric = metric_named(name)
    assert metric.inapplicable([(fits,), (fits,), (fits_not,)]) is None
    assert metric.inapplicable([(fits,), (fits_not,)]) is not None
    assert metric.inapplicable([(fits, fits_not)]) is not None
    assert metric.inapplicable([]) is not None


@pytest.mark.parametrize("name", ["label_accuracy", "label_f1"])
def test_labels_are_short_several_and_each_of_more_than_one_prompt(name: str) -> None:
    metric = metric_named(name)
    assert metric.inapplicable([("yes",), ("no",), ("no",), ("yes",), ("no",)]) is None
    assert "no labels" in str(metric.inapplicable([("x" * 81,)] * 2 + [("y",)]))
    assert "one label" in str(metric.inapplicable([("yes",)] * 9))
    different = [(f"number {number}",) for number in range(9)]
    assert "9 different references" in str(metric.inapplicable(different))
    assert metric.inapplicable([]) is not None


def test_too_many_classes_are_for_accuracy_alone() -> None:
    many = [(f"class {number}",) for number in range(MOST_LABELS + 1)] * 3
    assert "Score label_accuracy" in str(metric_named("label_f1").inapplicable(many))
    assert metric_named("label_accuracy").inapplicable(many) is None
    assert metric_named("label_f1").inapplicable(many[:MOST_LABELS] * 3) is None


@given(
    st.lists(
        st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=4
    )
)
@settings(max_examples=40)
@pytest.mark.parametrize("name", TASKS)
def test_any_texts_give_a_number_on_the_scale(
    name: str, pairs: list[tuple[str, str]]
) -> None:
    rows = [scored(answer, reference) for answer, reference in pairs]
    metric = for_references(metric_named(name), [row.references for row in rows])
    found = score(metric, rows)
    assert 0.0 <= found <= 1.0
    if metric.compares_answers:
        right = [scored(row.references[0], *row.references) for row in rows]
        assert score(metric, right) >= found
    assert "\n" not in metric.signature(rows)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("```json\n[1]\n```", "[1]"),
        ("```\n[1]```", "[1]"),
        (" ``` \n [1]\n  ``` ", "[1]"),
        ("```\n```", ""),
        ("```json [1]\n```", "```json [1]\n```"),
        ("```\n[1]\n``` more", "```\n[1]\n``` more"),
        ("```[1]```", "```[1]```"),
    ],
)
def test_one_fence_around_all_is_taken_off(text: str, body: str) -> None:
    assert strip_fence(text) == body


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 99_000,
        '"' * 199_999,
        "```\n" + " " * 199_000 + "x```y",
        "```\n" + " " * 199_000 + "x```",
    ],
)
def test_what_is_no_json_is_read_once(text: str) -> None:
    begun = time.monotonic()
    assert not is_json(text)
    # Read anew from each of its letters, it would take hours.
    assert time.monotonic() - begun < 5
