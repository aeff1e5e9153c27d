"""The negative control: which other prompt's references each answer is also compared with."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from core.errors import IncompleteEvidence
from pipelines.values.dataset import Prompt


def control_prompts(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """For each prompt, by its identifier, one prompt of another group, always the same.

    No prompt is used twice, unless one group holds over half of all. Groups are in the order of
    their hash, since names that sort together (`apt`, `apt-get`) mean much the same.
    `IncompleteEvidence` where there is one group only.
    """
    # The order must not depend on that of the rows, so that a rescore pairs the same prompts.
    ordered = sorted(prompts, key=_hash_order)
    groups = [prompt.group for prompt in ordered]
    count = len(set(groups))
    if count < 2:
        raise IncompleteEvidence(
            f"The held-out split has {count} group: nothing can be compared. "
            "Bring rows of more groups."
        )
    # A step of the largest group's size leads out of every group.
    ((_, step),) = Counter(groups).most_common(1)
    return {
        prompt.id: _prompt_of_other_group(ordered, place, step)
        for place, prompt in enumerate(ordered)
    }


def _hash_order(prompt: Prompt) -> tuple[str, str]:
    digest = hashlib.sha256(prompt.group.encode())
    group_hash = digest.hexdigest()
    return group_hash, prompt.id


def _prompt_of_other_group(ordered: Sequence[Prompt], place: int, step: int) -> Prompt:
    """The first prompt of another group, from `step` places after `place` on, in a circle."""
    own_group = ordered[place].group
    count = len(ordered)
    reached = (place + step) % count
    # Where one group holds over half of all, the step may lead back into it.
    while ordered[reached].group == own_group:
        reached = (reached + 1) % count
    return ordered[reached]
