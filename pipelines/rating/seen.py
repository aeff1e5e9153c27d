"""What MLflow shows of an item now, and whether it is what was sealed.

Who can write to MLflow's database can put another answer under an item: people then rate what no
model said.
"""

from collections.abc import Iterable, Mapping

from core.files import digest_of_text
from core.value import Value
from pipelines.rating.plan import Item, ItemId, digest_of_messages
from pipelines.values.dataset import Message, prompt_id

PREVIEW = 1000
"""Characters of a text that MLflow lists beside an item."""


class Seen(Value):
    """The texts of one item as MLflow's pages show them."""

    messages: tuple[Message, ...]
    answer: str
    asked_preview: str
    answer_preview: str


def find_altered(
    items: Iterable[Item], seen: Mapping[ItemId, Seen]
) -> tuple[ItemId, ...]:
    """The items that are shown otherwise than they were sealed, in the order of the plan.

    One that is missing is no altered one: nobody's rating of it is there either.
    """
    altered = []
    for item in items:
        shown = seen.get(item.id)
        if shown is None:
            continue
        if not _is_as_sealed(item, shown):
            altered.append(item.id)
    return tuple(altered)


def _is_as_sealed(item: Item, shown: Seen) -> bool:
    # What cannot be read at all is nothing that was sealed.
    if not shown.messages:
        return False
    if not _is_prompt_of(item, shown.messages):
        return False
    answer = shown.answer
    if digest_of_text(answer) != item.answer_sha256:
        return False
    last = shown.messages[-1]
    asked = last.content
    # A person may read the list alone.
    if shown.asked_preview != asked[:PREVIEW]:
        return False
    return shown.answer_preview == answer[:PREVIEW]


def _is_prompt_of(item: Item, messages: tuple[Message, ...]) -> bool:
    sealed = item.messages_sha256
    # An older plan has the prompt's id alone, a digest that white space does not change.
    if sealed is None:
        return prompt_id(messages) == item.prompt_id
    return digest_of_messages(messages) == sealed
