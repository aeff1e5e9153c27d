"""How many different things a set of rows asks.

Copies under other numbers, signs or group names are one content.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from core.files import digest_of_json
from pipelines.values.dataset import Prompt, normalise_text, text_of

_NUMBER = re.compile(r"\d+")


def digest_content(prompt: str, references: Sequence[str]) -> str:
    """Digest what a prompt asks and expects, apart from case, punctuation and numbers.

    A number of a reference counts unless it only repeats one of the prompt: "2 + 3" and
    "2 + 4" have other answers. Returns 16 hexadecimal digits.
    """
    numbers = set(_NUMBER.findall(prompt))
    answers = [_remove_numbers(reference, numbers) for reference in references]
    expected = {_fold_words(answer) for answer in answers}
    without_numbers = _NUMBER.sub("", prompt)
    question = _fold_words(without_numbers)
    # A prompt of numbers alone, or of signs alone, is still some content.
    if not question:
        question = _fold_words(prompt) or normalise_text(prompt)
    digest = digest_of_json([question, sorted(expected)])
    return digest[:16]


def digest_contents(prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """Return the content of each prompt, in order."""
    return tuple(
        digest_content(text_of(prompt.messages), prompt.references)
        for prompt in prompts
    )


def assign_clusters(
    groups: Sequence[str], contents: Sequence[str | None]
) -> tuple[str, ...]:
    """Return the cluster of each row: groups that share a content are one cluster.

    `groups` and `contents` have one entry a row. A cluster is called by its group that
    sorts first. None for a content joins nothing.
    """
    # Union-find: each group points at another one of its cluster, the head at itself.
    parents = {group: group for group in groups}

    def find_head(group: str) -> str:
        while parents[group] != group:
            parent = parents[group]
            # Halve the path on the way: long chains stay short.
            parents[group] = parents[parent]
            group = parents[group]
        return group

    first_group: dict[str, str] = {}
    for group, content in zip(groups, contents, strict=True):
        if content is None:
            continue
        owner = first_group.setdefault(content, group)
        head, other = sorted((find_head(group), find_head(owner)))
        # The smaller name stays head, so that the order of rows does not matter.
        parents[other] = head
    return tuple(find_head(group) for group in groups)


def _remove_numbers(text: str, numbers: set[str]) -> str:
    """Remove the numbers that are among `numbers`; other ones stay."""

    def replace(match: re.Match[str]) -> str:
        number = match[0]
        if number in numbers:
            return ""
        return number

    return _NUMBER.sub(replace, text)


def _fold_words(text: str) -> str:
    """Return letters, their marks and digits in lower case, everything else as one space.

    Format characters (Unicode category Cf) are invisible: they do not even part words.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    characters = [_blank_unless_word(character) for character in folded]
    words = "".join(characters).split()
    return " ".join(words)


def _blank_unless_word(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    # Letters, their marks, and numbers.
    return character if category[0] in "LMN" else " "
