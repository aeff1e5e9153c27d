"""Which references BLEU can score: long enough for its n-grams, and cut into words.

It looks at references alone: an adapter with short answers must not switch off its own guardrail.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipelines.metrics.metric import References, is_half, prompts_have
from pipelines.values.metric_settings import BleuSettings

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDERS = 4
ORDER = "score.bleu.effective_order to true"
LONGEST_WORD = 6
"""Letters a token from which on a text without spaces counts as not cut.

A word of these scripts has two to five letters on average; a clause in one token has more.
"""
# Kana, Han, Thai, Lao, Tibetan, Burmese, Khmer.
_WITHOUT_SPACES = re.compile(
    "[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)
_KANA = re.compile("[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# So often is a text repeated to see whether the tokenizer cuts it anywhere.
_REPEATS = 4


class Scoring(NamedTuple):
    """sacreBLEU's BLEU, and the settings that it was made with."""

    sacre: "BLEU"
    settings: BleuSettings

    @property
    def fewest_tokens(self) -> int:
        """The shortest text that has every order which must be there."""
        return 1 if self.settings.effective_order else ORDERS


def unfit_references(
    references: References, chosen: Scoring, standard: Scoring
) -> str | None:
    """Why BLEU says nothing about these references, with the numbers and the next step, or None.

    A reference is unfit where it has fewer tokens than the highest order of n-grams: it adds
    nothing to that order's precision, and where none does, the score is 0 even for a perfect
    answer. It is unfit, too, where a script without spaces is not cut into words: only a whole
    clause that is equal then counts.

    A prompt is unfit where at least half of its references are: an adapter that learned the rows
    answers as most of them do. BLEU does not apply where at least half of the prompts are unfit.
    Prompts are counted and not references, so that one prompt with many answers decides nothing.
    The highest order's precision is a quarter of the score, and a minority of the prompts would
    decide it. Of a few unfit ones the others make up: corpus BLEU is defined, and a perfect system
    reaches 100.

    What is fit under the standard settings is fit under any: a setting may make BLEU apply, and
    never make it silent.
    """
    kinds: Counter[str] = Counter()
    uncut_texts: list[str] = []
    for texts in references:
        found = [_kind(text, chosen, standard) for text in texts]
        kind = _kind_of_prompt(found)
        kinds[kind] += 1
        if kind == "uncut":
            uncut_texts += texts
    unfit = kinds["uncut"] + kinds["short"]
    if not is_half(unfit, len(references)):
        return None
    steps = _list_steps(kinds, uncut_texts, chosen.settings)
    facts = " and ".join(_list_facts(kinds, len(references), chosen))
    return f"{facts}. {' and '.join(steps)}, or let other metrics judge"


def _kind_of_prompt(kinds: Sequence[str]) -> str:
    uncut = kinds.count("uncut")
    short = kinds.count("short")
    unfit = uncut + short
    if not is_half(unfit, len(kinds)):
        return ""
    # Cutting comes first: it makes texts longer, too.
    if uncut and uncut >= short:
        return "uncut"
    return "short"


def _kind(reference: str, chosen: Scoring, standard: Scoring) -> str:
    if not _unfit(reference, standard):
        return ""
    return _unfit(reference, chosen)


def _unfit(reference: str, scoring: Scoring) -> str:
    """`uncut` or `short` where BLEU can do nothing with the reference, else nothing."""
    tokens = _cut(reference, scoring)
    # First, since a sentence in one token is short as well, and another tokenizer would cut it.
    if _is_uncut(tokens) or _is_one_piece(tokens, scoring):
        return "uncut"
    return "short" if len(tokens) < scoring.fewest_tokens else ""


def _is_uncut(tokens: Sequence[str]) -> bool:
    letters = [len(_WITHOUT_SPACES.findall(token)) for token in tokens]
    with_letters = [count for count in letters if count]
    # Without such letters 0 is not over 0.
    return sum(with_letters) > LONGEST_WORD * len(with_letters)


def _is_one_piece(tokens: Sequence[str], scoring: Scoring) -> bool:
    """Whether all that is no sign is in one token, and the tokenizer would cut it nowhere.

    Of four letters that are one token nobody can tell whether they are one word: a tokenizer that
    knows words cuts them once they are repeated.
    """
    words = [token for token in tokens if any(sign.isalnum() for sign in token)]
    if len(words) != 1 or not _WITHOUT_SPACES.search(words[0]):
        return False
    repeated = words[0] * _REPEATS
    return len(_cut(repeated, scoring)) == 1


def _cut(text: str, scoring: Scoring) -> list[str]:
    sacre = scoring.sacre
    tokenizer = sacre.tokenizer
    stripped = text.rstrip()
    tokens: str = tokenizer(stripped)
    return tokens.split()


def _list_facts(kinds: Counter[str], total: int, chosen: Scoring) -> Iterator[str]:
    uncut, short = kinds["uncut"], kinds["short"]
    if uncut:
        yield (
            f"{prompts_have(uncut, total)} references in a script without spaces "
            f"that the tokenizer {chosen.settings.tokenize} does not cut into words"
        )
    if short or not uncut:
        noun = "token" if chosen.fewest_tokens == 1 else "tokens"
        yield (
            f"{prompts_have(short, total)} references "
            f"with fewer than {chosen.fewest_tokens} {noun}"
        )


def _list_steps(
    kinds: Counter[str], uncut: Sequence[str], settings: BleuSettings
) -> Iterator[str]:
    if kinds["uncut"]:
        listed = _list_cutters(uncut, settings.tokenize)
        yield f"Set score.bleu.tokenize to {listed}"
        if kinds["short"] and not settings.effective_order:
            yield ORDER
        return
    if settings.effective_order:
        # One token is enough then: what is missing is text.
        yield "Bring rows with completions"
        return
    yield f"Set {ORDER}"


def _list_cutters(texts: Sequence[str], in_use: str) -> str:
    names = list(_cutters(texts))
    # It does not cut them, whatever it is for.
    if in_use in names:
        names.remove(in_use)
    last = names.pop()
    if not names:
        return last
    others = ", ".join(names)
    return f"{others} or {last}"


def _cutters(texts: Sequence[str]) -> Iterator[str]:
    """The tokenizers that cut these texts: zh knows no kana, and only char the other scripts."""
    text = " ".join(texts)
    has_kana = _KANA.search(text) is not None
    has_han = _HAN.search(text) is not None
    if has_han and not has_kana:
        yield "zh"
    if has_han or has_kana:
        yield "ja-mecab"
    yield "char"
