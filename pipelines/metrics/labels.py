"""What counts as the same label, and where answers are labels at all."""

import unicodedata

from pipelines.metrics.metric import References, is_half, prompts_have

SIGNATURE = (
    "label:whole answer|unicode:NFKC|case:folded|ends:white space, quotes, full stop"
)
LONGEST = 80
"""Characters. A longer text is an answer and no name of a class."""
_ENDS = " \t\r\n\"'`.\u201c\u201d\u2018\u2019"


def normalise_label(text: str) -> str:
    """A label apart from case, forms of letters, and signs at its ends."""
    # Models answer a class in other capitals and with a full stop, and mean the same.
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = folded.split()
    return " ".join(words).strip(_ENDS)


def no_labels(references: References) -> str | None:
    """Why labels say nothing about these references; None where they do.

    Labels are short, and there are several, each for more than one prompt on average.
    """
    total = len(references)
    long = 0
    # Over all prompts: what is a class shows by how often it comes back.
    labels: set[str] = set()
    for texts in references:
        normalised = {normalise_label(text) for text in texts}
        labels |= normalised
        is_label = all(0 < len(label) <= LONGEST for label in normalised)
        long += not is_label
    if is_half(long, total):
        return (
            f"{prompts_have(long, total)} references that are empty or over {LONGEST} "
            "characters, which are no labels. Score chrf or exact_match"
        )
    if len(labels) < 2:
        return (
            f"All {total} prompts have one label, so that no answer tells anything apart. "
            "Bring rows of other labels"
        )
    if is_half(len(labels), total):
        return (
            f"{total} prompts have {len(labels)} different references, which are no labels. "
            "Score chrf or exact_match"
        )
    return None
