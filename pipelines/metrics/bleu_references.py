"""Which references BLEU can score: long enough for its n-grams, and cut into words.

It looks at references alone: an adapter with short answers must not switch off its own guardrail.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pipelines.values.metric_settings import BleuSettings

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

ORDERS = 4
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


class Scoring(NamedTuple):
    """sacreBLEU's BLEU, and the settings that it was made with."""

    sacre: "BLEU"
    settings: BleuSettings

    @property
    def fewest_tokens(self) -> int:
        """The shortest text that has every order which must be there."""
        return 1 if self.settings.effective_order else ORDERS


def unfit_references(
    references: Sequence[str], chosen: Scoring, standard: Scoring
) -> str | None:
    """Why BLEU says nothing about these references, with the numbers and the next step, or None.

    A reference is unfit where it has fewer tokens than the highest order of n-grams: it adds
    nothing to that order's precision, and where none does, the score is 0 even for a perfect
    answer. It is unfit, too, where a script without spaces is not cut into words: only a whole
    clause that is equal then counts.

    BLEU does not apply where at least half are unfit. The highest order's precision is a quarter
    of the score, and a minority of the prompts would decide it. Of a few unfit ones the others
    make up: corpus BLEU is defined, and a perfect system reaches 100.

    What is fit under the standard settings is fit under any: a setting may make BLEU apply, and
    never make it silent.
    """
    kinds = [_kind(reference, chosen, standard) for reference in references]
    uncut = kinds.count("uncut")
    short = kinds.count("short")
    # Asked as a pass: without a reference there is nothing that it could apply to.
    if 2 * (uncut + short) < len(references):
        return None
    return _sentence(uncut, short, len(references), chosen)


def _kind(reference: str, chosen: Scoring, standard: Scoring) -> str:
    if not _unfit(reference, standard):
        return ""
    return _unfit(reference, chosen)


def _unfit(reference: str, scoring: Scoring) -> str:
    """`uncut` or `short` where BLEU can do nothing with the reference, else nothing."""
    tokens = scoring.sacre.tokenizer(reference.rstrip()).split()
    # First, since a sentence in one token is short as well, and another tokenizer would cut it.
    if _is_uncut(tokens):
        return "uncut"
    return "short" if len(tokens) < scoring.fewest_tokens else ""


def _is_uncut(tokens: Sequence[str]) -> bool:
    letters = [len(_WITHOUT_SPACES.findall(token)) for token in tokens]
    with_letters = [count for count in letters if count]
    # Without such letters 0 is not over 0.
    return sum(with_letters) > LONGEST_WORD * len(with_letters)


def _sentence(uncut: int, short: int, total: int, chosen: Scoring) -> str:
    facts, steps = [], []
    if uncut:
        facts.append(
            f"{uncut} of {total} references are in a script without spaces "
            f"that the tokenizer {chosen.settings.tokenize} does not cut into words"
        )
        steps.append("score.bleu.tokenize to zh, ja-mecab or char")
    if short or not uncut:
        facts.append(
            f"{short} of {total} references have fewer than {chosen.fewest_tokens} tokens"
        )
        steps.append("score.bleu.effective_order to true")
    fact = " and ".join(facts)
    return f"{fact}. Set {' and '.join(steps)}, or let other metrics judge"
