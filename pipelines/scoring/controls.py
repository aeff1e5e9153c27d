"""Which other prompt's references each answer is also compared with, as a control."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from core.errors import IncompleteEvidence
from pipelines.values.dataset import Prompt


def control_prompts(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """For each prompt one of another group, always the same: no prompt is used twice unless one group holds over half of all.

    Groups stand in the order of their hash, not of their names, since names that sort together (`apt`, `apt-get`) mean much
    the same. Moving on by the size of the largest group leaves every group.
    """
    ordered = sorted(
        prompts,
        key=lambda prompt: (
            hashlib.sha256(prompt.group.encode()).hexdigest(),
            prompt.id,
        ),
    )
    groups = [prompt.group for prompt in ordered]
    if len(set(groups)) < 2:
        raise IncompleteEvidence(
            f"The held-out split has {len(set(groups))} group: nothing can be compared. Bring rows of more groups."
        )
    ((_, step),) = Counter(groups).most_common(1)
    return {
        prompt.id: _other_group(ordered, place, step)
        for place, prompt in enumerate(ordered)
    }


def _other_group(ordered: Sequence[Prompt], place: int, step: int) -> Prompt:
    reached = (
        ordered[(place + step + more) % len(ordered)] for more in range(len(ordered))
    )
    return next(prompt for prompt in reached if prompt.group != ordered[place].group)
