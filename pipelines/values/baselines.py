"""The prompt-only baselines: what the base model can do without training."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from core.value import Value

Baseline = Literal["base", "few_shot", "retrieval"]
ALWAYS: tuple[Baseline, ...] = ("base", "few_shot")
"""Every adapter is compared with these."""


def _check_asked(baselines: tuple[Baseline, ...]) -> tuple[Baseline, ...]:
    missing = [name for name in ALWAYS if name not in baselines]
    # An adapter that nobody compared with its own base may have lost by training.
    if missing:
        names = " and ".join(missing)
        raise ValueError(f"it lacks {names}, which every adapter is compared with")
    if len(set(baselines)) != len(baselines):
        raise ValueError("it names a baseline twice")
    return baselines


Asked = Annotated[tuple[Baseline, ...], AfterValidator(_check_asked)]


class AskedBaselines(Value):
    """Which baselines a policy asks for: `admit` writes it for the stages that answer."""

    baselines: Asked = ALWAYS
