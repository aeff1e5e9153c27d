"""Published families of base models, made tiny: each is laid out as its own software lays it out.

`FAMILIES` is what the tests check and what the table in the documentation lists. The room:
`tokenizers` and `templates` hold the parts, `family` the value and the files, the other modules
the families by their makers, and `oracle` what plain transformers says of each.
"""

from tests.support.families.extras import EXTRAS
from tests.support.families.family import Family
from tests.support.families.gemmas import GEMMAS
from tests.support.families.llamas import LLAMAS
from tests.support.families.others import OTHERS
from tests.support.families.qwens import QWENS

FAMILIES: tuple[Family, ...] = (*LLAMAS, *QWENS, *GEMMAS, *OTHERS, *EXTRAS)

__all__ = ["FAMILIES", "Family"]
