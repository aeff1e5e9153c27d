"""Whether a policy seals a reserve: all that `split` asks of it.

Read by itself, as `admit_policy` is: `split` must not run again because a metric's code changed.
"""

from pathlib import Path

from pipelines.gates.admit_policy import explained, read_document


def is_reserve_sealed(path: Path) -> bool:
    """Whether a policy's file asks for a sealed reserve; one that does not say so asks for none.

    `ParameterError` where the file is missing, or says anything else.
    """
    with explained(path):
        document = read_document(path)
        screen = dict(document.content["screen"])
        reserve = screen.get("reserve", "none")
        if reserve not in {"sealed", "none"}:
            raise ValueError(reserve)
        return bool(reserve == "sealed")
