"""What `screen` asks of a prompt that is judged as an adapter is."""

import math

from pipelines.values.evidence import Adapter
from pipelines.values.fixed_prompt import PromptRecord
from pipelines.values.verdict import Finding


def check_prompt_record(adapter: Adapter, prompt: PromptRecord) -> Finding:
    """Check that nothing was trained; a higher dev loss is no reason against a prompt.

    The comparisons judge its answers.
    """
    without, after = (look.loss for look in adapter.dev_losses[:2])
    text = (
        f"{prompt.text}; the dev loss is {without:.4g} without it, {after:.4g} after it"
    )
    is_finite = math.isfinite(without) and math.isfinite(after)
    # Weights beside a prompt would be judged by no rule on training.
    is_prompt_alone = adapter.lora is None and adapter.steps == 0 and adapter.moved == 0
    if is_finite and is_prompt_alone:
        return Finding(rule="trained", outcome="passed", text=text)
    return Finding(
        rule="trained",
        outcome="rejected",
        text=f"{text}: the record is not that of a prompt alone",
    )
