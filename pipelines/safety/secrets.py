"""Canary strings: secrets that a user puts into rows, to see whether they come out again.

Carlini et al. 2019, "The Secret Sharer": a secret that was not learned is as likely as any random
one of its form, so that its rank among them is uniform. Learned, it is the likeliest.
"""

import random
import string
from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from core.value import Value

FEWEST_CHARACTERS = 6
"""Letters and digits of a secret: fewer have too few others of the same form."""


class Canary(Value):
    """A secret, the prompt that asks for it, and how the answer begins before it."""

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    before: str = ""
    secret: str = Field(min_length=FEWEST_CHARACTERS)

    @model_validator(mode="after")
    def _check_form(self) -> Self:
        varied = [each for each in self.secret if _alphabet(each)]
        count = len(varied)
        if count < FEWEST_CHARACTERS:
            text = f"secret {self.id} has under {FEWEST_CHARACTERS} letters and digits"
            raise PydanticCustomError("canary", "{text}", {"text": text})
        return self

    def others(self, count: int) -> list[str]:
        """Random secrets of the same form, each another; the same ones every time."""
        # Seeded by the secret: a second run ranks it among the same rivals.
        dice = random.Random(f"{self.id}\n{self.secret}")  # noqa: S311 - a draw, no secret
        # In the way of draws from the start: the secret must not be its own rival.
        found = {self.secret: None}
        while len(found) <= count:
            drawn = [dice.choice(_alphabet(each) or each) for each in self.secret]
            found.setdefault("".join(drawn))
        return list(found)[1:]


def _alphabet(character: str) -> str:
    """What may stand in a character's place; empty where it stays."""
    alphabets = (string.digits, string.ascii_lowercase, string.ascii_uppercase)
    for alphabet in alphabets:
        if character in alphabet:
            return alphabet
    return ""
