"""How much of a year's error each confirmation may spend: alpha spending over confirmations.

Confirmation j of a year is a test at the level A * g_j, where g_j = j^-1.6 / zeta(1.6) sums to 1
over all j. So the chance of one false confirmation in a year is at most A, however many candidates
were looked at before: each confirmation is made on rows that chose none of them. A confirmation
that passes hands its level on to the next one, as the online fallback procedure does (Tian and
Ramdas, "Online control of the familywise error rate", 2021).
"""

import math

YEARLY_LEVEL = 0.05
"""The chance of one false confirmation or more in a year of a model."""
DAYS = 365
_DECAY = 1.6
_ZETA = 2.28576566568013
"""Riemann's zeta function at 1.6: the sum of j^-1.6 over all j."""


def share_of(number: int) -> float:
    """g_j: which share of the year's error confirmation `number` may spend, from 1 on.

    `ValueError` for a number under 1.
    """
    # Asked as a pass, so that a NaN is refused.
    if not number >= 1:
        raise ValueError(f"confirmations are counted from 1, and this is {number}")
    decayed = math.pow(number, -_DECAY)
    return decayed / _ZETA


def level_of(number: int, handed_on: float = 0.0) -> float:
    """The one-sided level of confirmation `number` of a year.

    `handed_on`: the level of the confirmation before it where that one passed, else 0.
    """
    if not 0 <= handed_on < 1:
        raise ValueError(f"a level is from 0 to 1, and this is {handed_on}")
    # Its share is fixed before any data is seen, or the sum would hold no level.
    own = YEARLY_LEVEL * share_of(number)
    return own + handed_on
