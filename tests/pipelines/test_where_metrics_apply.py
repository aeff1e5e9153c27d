"""A metric says where it says nothing about the references, by the references alone."""

import pytest

from pipelines.metrics import METRICS
from pipelines.metrics.bleu import Bleu
from pipelines.metrics.chrf import Chrf
from pipelines.values.metric_settings import BleuSettings, Tokenizer

FOUR, THREE = "ls -l | wc", "ls -l |"
SENTENCE = "旧杯子放在桌子上面"
# Tokens of seven letters each are no words; of six they may be.
SEVEN, SIX = "一二三四五六七", "一二三四五六"


def bleu(tokenize: Tokenizer = "13a", *, effective_order: bool = False) -> Bleu:
    return Bleu(BleuSettings(tokenize=tokenize, effective_order=effective_order))


def note(metric: Bleu | Chrf, *references: str) -> str | None:
    return metric.inapplicable([(reference,) for reference in references])


def test_bleu_does_not_apply_where_half_of_the_references_are_under_four_tokens() -> (
    None
):
    assert note(bleu(), FOUR, FOUR, THREE) is None
    assert note(bleu(), FOUR, THREE) == (
        "1 of 2 prompts has references with fewer than 4 tokens. "
        "Set score.bleu.effective_order to true, or let other metrics judge"
    )


def test_a_prompt_is_unfit_where_half_of_its_references_are() -> None:
    assert bleu().inapplicable([(FOUR, THREE, THREE), (FOUR,)]) is not None
    assert bleu().inapplicable([(FOUR, THREE), (FOUR,)]) is not None
    assert bleu().inapplicable([(FOUR, THREE, FOUR), (FOUR,)]) is None


def test_one_prompt_with_many_answers_decides_nothing() -> None:
    sentences = [(FOUR,)] * 40
    assert bleu().inapplicable([*sentences, (THREE,) * 41]) is None
    assert Chrf().inapplicable([*sentences, ("",) * 41]) is None
    words = [(THREE,)] * 40
    told = bleu().inapplicable([*words, (FOUR,) * 41])
    assert str(told).startswith("40 of 41 prompts have references with fewer than 4")
    assert Chrf().inapplicable([("",), ("",), ("a",) * 9]) is not None


def test_a_prompt_is_empty_for_chrf_where_half_of_its_references_are() -> None:
    assert Chrf().inapplicable([("a", " ")]) is not None
    assert Chrf().inapplicable([("a", "b", " ")]) is None


def test_a_prompt_that_is_uncut_and_short_alike_is_to_be_cut() -> None:
    told = str(bleu().inapplicable([(SENTENCE, THREE)]))
    assert "does not cut" in told
    assert "fewer than" not in told
    mostly_short = str(bleu().inapplicable([(SENTENCE, THREE, THREE)]))
    assert "fewer than 4 tokens" in mostly_short
    assert "does not cut" not in mostly_short


def test_with_effective_order_one_token_is_enough() -> None:
    ordered = bleu(effective_order=True)
    assert note(ordered, "ls") is None
    # No setting makes a text of nothing: the step is another one.
    assert note(ordered, "  ") == (
        "1 of 1 prompt has references with fewer than 1 token. "
        "Bring rows with completions, or let other metrics judge"
    )


@pytest.mark.parametrize("text", ["吃饭了吗", "吃饭了吗?", "好", "うれしい", "ไปไหน"])
def test_effective_order_makes_no_word_of_a_text_that_is_not_cut(text: str) -> None:
    ordered = bleu(effective_order=True)
    assert "the tokenizer 13a does not cut into words" in str(note(ordered, text))
    assert note(bleu("char", effective_order=True), text) is None


def test_words_between_spaces_are_cut_whatever_their_script() -> None:
    ordered = bleu(effective_order=True)
    assert note(ordered, "使用 git", "四字 成语") is None


@pytest.mark.parametrize(
    ("tokenize", "text", "step"),
    [
        ("13a", SENTENCE, "zh, ja-mecab or char, or"),
        ("intl", SENTENCE, "zh, ja-mecab or char, or"),
        ("13a", "そのコップはテーブルの上にあります", "ja-mecab or char, or"),
        ("zh", "そのコップはテーブルのうえにあります", "ja-mecab or char, or"),
        ("13a", "หนังสือเล่มนี้อยู่บนโต๊ะ", "char, or"),
        ("zh", "หนังสือเล่มนี้อยู่บนโต๊ะ", "char, or"),
        # Characters that Unicode has had since 2018, and the tokenizer of that name does not know.
        ("zh", "鿰鿱鿲鿳鿴鿵鿶", "ja-mecab or char, or"),
    ],
)
def test_the_next_step_names_tokenizers_that_cut_these_texts_and_not_the_one_in_use(
    tokenize: Tokenizer, text: str, step: str
) -> None:
    told = str(note(bleu(tokenize), text))
    assert f"the tokenizer {tokenize} does not cut" in told
    assert f". Set score.bleu.tokenize to {step} let other metrics judge" in told


@pytest.mark.parametrize("effective_order", [False, True])
def test_bleu_does_not_apply_where_the_tokenizer_cuts_no_words(
    *, effective_order: bool
) -> None:
    plain = bleu(effective_order=effective_order)
    assert note(plain, SENTENCE, SENTENCE) == (
        "2 of 2 prompts have references in a script without spaces that the tokenizer "
        "13a does not cut into words. Set score.bleu.tokenize to zh, ja-mecab or char, "
        "or let other metrics judge"
    )
    for tokenize in ("zh", "char"):
        assert note(bleu(tokenize, effective_order=effective_order), SENTENCE) is None
    # Clauses with commas and numbers are more than four tokens, and still no words.
    assert note(plain, ", ".join([SENTENCE] * 4)) is not None
    assert note(plain, SENTENCE, FOUR, FOUR) is None


@pytest.mark.parametrize(
    "text",
    [
        "หนังสือเล่มนี้อยู่บนโต๊ะ",
        "ນີ້ແມ່ນປຶ້ມຂອງຂ້ອຍ",
        "នេះគឺជាសៀវភៅរបស់ខ្ញុំ",
        "ဤစာအုပ်သည်ကျွန်ုပ်၏ဖြစ်သည်",
        "そのコップはテーブルの上にあります",
        "ཀ་ཁ་ག་ང་ཅ་ཆ་ཇ་ཉ་ཏ་ཐ",
    ],
)
def test_every_script_without_spaces_is_known(text: str) -> None:
    assert "does not cut into words" in str(note(bleu(effective_order=True), text))


def test_words_that_are_cut_already_and_long_words_of_other_scripts_are_words() -> None:
    ordered = bleu(effective_order=True)
    assert note(ordered, f"{SIX} {SIX}") is None
    assert note(ordered, f"{SEVEN} {SIX}") is not None
    assert note(ordered, "достопримечательность", "Größenänderungsübersicht") is None


def test_short_and_uncut_references_together_are_half() -> None:
    told = note(bleu(), SENTENCE, THREE, FOUR, FOUR)
    assert told == (
        "1 of 4 prompts has references in a script without spaces that the tokenizer 13a "
        "does not cut into words and 1 of 4 prompts has references with fewer than 4 tokens. "
        "Set score.bleu.tokenize to zh, ja-mecab or char "
        "and score.bleu.effective_order to true, or let other metrics judge"
    )


def test_no_setting_makes_bleu_silent_where_it_applies_without() -> None:
    # Four tokens under 13a, one under intl, which cuts no sign between two digits.
    assert note(bleu(), "2023-11-04") is None
    assert note(bleu("intl"), "2023-11-04") is None


def test_without_any_reference_bleu_applies_to_nothing() -> None:
    assert bleu().inapplicable([]) is not None


def test_chrf_applies_to_one_letter_and_not_where_half_of_the_references_are_empty() -> (
    None
):
    assert note(Chrf(), "a", "7") is None
    assert note(Chrf(), " \n", "a", "b") is None
    assert note(Chrf(), " \n", "a") == (
        "1 of 2 prompts has references that hold nothing but white space. "
        "Bring rows with completions"
    )


def test_every_other_metric_always_applies() -> None:
    everywhere = {
        "exact_match",
        "command_validity",
        "perplexity_per_token",
        "bits_per_byte",
    }
    others = [metric for metric in METRICS if metric.name in everywhere]
    assert len(others) == len(everywhere)
    for metric in others:
        assert metric.inapplicable([("",), ("ls",)]) is None
