"""Which prompt-only baselines a policy asks for: all that the stage which answers them needs.

Read by itself, as `reserve_policy` is. `admit` writes it into a file of its own, so that another
margin in the same policy does not have the base model answer every prompt again.
"""

from pathlib import Path

from pipelines.gates.admit_policy import explained, read_document
from pipelines.values.baselines import AskedBaselines


def read_asked_baselines(path: Path) -> AskedBaselines:
    """Read `screen.baselines` of a policy's file; one that does not say so asks for the usual ones.

    `ParameterError` where the file is missing, or names anything else.
    """
    with explained(path):
        document = read_document(path)
        screen = dict(document.content["screen"])
        # Without the key the value's own default holds.
        named = {key: screen[key] for key in ("baselines",) if key in screen}
        return AskedBaselines.model_validate(named)
