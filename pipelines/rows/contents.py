"""How many different things a set of rows asks: copies under other numbers, signs or group names are one content."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from core.files import digest_of_json
from pipelines.values.dataset import Prompt, normalised, text_of

_NUMBER = re.compile(r"\d+")


def content_of(prompt: str, references: Sequence[str]) -> str:
    """A digest that is equal for prompts that differ in case, punctuation and numbers alone, and for what they expect.

    A number of a reference counts unless it only repeats one of the prompt: "2 + 3" and "2 + 4" have other answers.
    """
    repeated = set(_NUMBER.findall(prompt))
    expected = sorted(
        {
            _words(
                _NUMBER.sub(
                    lambda found: "" if found[0] in repeated else found[0], each
                )
            )
            for each in references
        }
    )
    return digest_of_json(
        [
            _words(_NUMBER.sub("", prompt)) or _words(prompt) or normalised(prompt),
            expected,
        ]
    )[:16]


def contents_of(prompts: Iterable[Prompt]) -> tuple[str, ...]:
    """The content of each prompt."""
    return tuple(
        content_of(text_of(prompt.messages), prompt.references) for prompt in prompts
    )


def clusters_of(
    groups: Sequence[str], contents: Sequence[str | None]
) -> tuple[str, ...]:
    """The cluster of each row, by the name of its first group: groups that share a content are one cluster."""
    heads = {group: group for group in groups}

    def head(group: str) -> str:
        while heads[group] != group:
            heads[group] = group = heads[heads[group]]
        return group

    first: dict[str, str] = {}
    for group, content in zip(groups, contents, strict=True):
        if content is not None:
            one, other = sorted((head(group), head(first.setdefault(content, group))))
            heads[other] = one
    return tuple(head(group) for group in groups)


def _words(text: str) -> str:
    """Letters, their marks and digits, in lower case; everything else parts words or is not seen at all."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kinds = ((letter, unicodedata.category(letter)) for letter in folded)
    return " ".join(
        "".join(
            letter if kind[0] in "LMN" else " "
            for letter, kind in kinds
            if kind != "Cf"
        ).split()
    )
