"""Invented text: what tokenizers are trained on, what is asked, and what is answered."""

import random
from dataclasses import dataclass

from pipelines.values.dataset import Message

_STORY = (
    "the red fox runs over a small hill and lists files in old boxes while "
    "seven green boats carry copper lamps to the harbour where people count "
    "them again before evening comes with rain or wind from the north"
)
LONG_INSTRUCTION = (
    "You sort the copper lamps of the harbour. Answer with one short word, "
    "and count the boats before evening comes."
)
"""What a part of the prompts begins with: longer than every sliding window here."""
UNUSUAL = ("naïve – 你好", "x = [1, 2];\n\treturn x", "  two spaces", "<b>bold</b>")
_AT_THE_EDGE = (
    " red",
    "red ",
    "\nred",
    "red\n\n",
    "   ",
    "\tx",
    "\r\nx",
    "}",
    "🙂",
    "e\u0301",
)
"""Answers whose first or last letter can melt into what stands beside it."""


@dataclass(frozen=True)
class Example:
    """A conversation up to the answer, and the answer."""

    messages: tuple[Message, ...]
    completion: str


def corpus() -> list[str]:
    """Sentences that a small tokenizer learns its merges from; the same each time."""
    dice = random.Random(7)
    return [_sentence(dice, dice.randrange(4, 16)) for _ in range(300)]


def prompts(count: int) -> list[str]:
    """Prompts from two words to forty, every third with the same long beginning."""
    dice = random.Random(11)
    texts: list[str] = []
    for number in range(count):
        words = (2, 5, 12, 25, 40)[number % 5]
        text = _sentence(dice, words)
        if number % 3 == 0:
            text = f"{LONG_INSTRUCTION}\n{text}"
        texts.append(text)
    # What begins alike is cached: two prompts that one word ends differently.
    texts[-1] = f"{texts[0]} now"
    return texts


def completions(count: int) -> list[str]:
    """Answers from one word to twelve."""
    dice = random.Random(13)
    texts = [_sentence(dice, 1 + number % 12) for number in range(count)]
    # Words as they stand inside a sentence, too: they have tokens of their own.
    return [text.lower() if number % 2 else text for number, text in enumerate(texts)]


def examples(count: int) -> list[Example]:
    """Rows of one user turn each."""
    pairs = zip(prompts(count), completions(count), strict=True)
    return [Example((user(prompt),), answer) for prompt, answer in pairs]


def unusual_examples() -> list[Example]:
    """Rows with letters outside of ASCII, markup, several lines, and space at the edges."""
    inside = [Example((user(f"Say {text}"),), text.strip()) for text in UNUSUAL]
    return [*inside, *(Example((user(" Say it\n"),), text) for text in _AT_THE_EDGE)]


def long_conversation() -> Example:
    """A row of three turns, the last one a user's."""
    turns = (
        user("How many boats are there?"),
        Message(role="assistant", content="Seven boats."),
        user("And how many lamps?"),
    )
    return Example(turns, "Nobody has counted them.")


def with_system_turn() -> Example:
    """A row that begins with an instruction of the system."""
    turns = (
        Message(role="system", content="Answer in one word."),
        user("Which fox runs?"),
    )
    return Example(turns, "Red")


def user(text: str) -> Message:
    """A user's turn."""
    return Message(role="user", content=text)


def _sentence(dice: random.Random, words: int) -> str:
    drawn = dice.choices(_STORY.split(), k=words)
    number = dice.randrange(100)
    return f"{' '.join(drawn).capitalize()} {number}."
