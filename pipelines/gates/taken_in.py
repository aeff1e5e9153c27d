"""What `screen` can ask of an adapter that Assay did not train."""

import math

from pipelines.values.elsewhere import UNCLAIMED
from pipelines.values.evidence import Adapter
from pipelines.values.verdict import Finding


def check_taken_in(adapter: Adapter) -> Finding:
    """Check that it changes the base; the finding says that it was trained elsewhere.

    A higher dev loss is no reason against it: preferences may have been trained on, and the
    comparisons judge answers.
    """
    # Measured when it was taken in, on the base and with the adapter.
    without, with_it = (look.loss for look in adapter.dev_losses[:2])
    numbers = (adapter.moved, adapter.train_loss, without, with_it)
    is_finite = all(math.isfinite(number) for number in numbers)
    text = (
        f"{UNCLAIMED}; it moves the base by {adapter.moved:.3g}, and the dev loss is "
        f"{without:.4g} without it, {with_it:.4g} with it"
    )
    # Asked as a pass: a NaN is over nothing.
    if is_finite and adapter.moved > 0:
        return Finding(rule="trained", outcome="passed", text=text)
    return Finding(
        rule="trained",
        outcome="rejected",
        text=f"{text}: it is the base under another name",
    )
