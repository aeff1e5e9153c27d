"""Which task rows are of, by what their completions look like, and which metric judges it."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from pipelines.metrics import metric_named
from pipelines.metrics.metric import References
from pipelines.values.dataset import Prompt, text_of

_LOSSES = ("perplexity_per_token", "bits_per_byte")
_FEW_WORDS = 5
_MANY_WORDS = 60
_SHORTER = 3
_SIGNS = ".,;:!?\"'()"


class Task(NamedTuple):
    """A kind of answers: its primary metric, and what is scored beside it."""

    name: str
    primary: str
    beside: tuple[str, ...]
    because: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """Everything to score."""
        return (self.primary, *self.beside, *_LOSSES)


_TOOLS = Task(
    "tool calls",
    "tool_call",
    ("chrf",),
    "Most completions call a tool by name with arguments",
)
_JSON = Task(
    "JSON",
    "json_field_f1",
    ("json_valid", "chrf"),
    "Most completions are JSON, of which each field is right or wrong by itself",
)
_CLASSES = Task(
    "classes",
    "label_f1",
    ("label_accuracy",),
    "The completions are a few short labels; F1 counts the rare ones as much as the others",
)
_MANY_CLASSES = Task(
    "many classes",
    "label_accuracy",
    ("chrf",),
    "The completions are short labels of more classes than F1 tells apart",
)
_SHORT = Task(
    "short answers",
    "squad_exact_match",
    ("exact_match", "chrf"),
    "Half of the completions have five words or fewer, and most are plain words",
)
_SUMMARIES = Task(
    "summaries",
    "rouge_l",
    ("chrf",),
    "Half of the prompts have over sixty words, and completions a third of that or less",
)
_TEXT = Task(
    "text",
    "chrf",
    ("bleu", "exact_match"),
    "The completions are text of no form that another metric is made for",
)


def recognise_task(prompts: Sequence[Prompt]) -> Task:
    """The task of the prompts: the most particular one whose metric applies to the references."""
    references = [prompt.references for prompt in prompts]
    # From the particular to the general: a tool call is JSON, and JSON is text.
    for task in (_TOOLS, _JSON, _CLASSES, _MANY_CLASSES):
        if metric_named(task.primary).inapplicable(references) is None:
            return task
    # Asked last: what is short or long says less than what it is.
    if _are_short(references):
        return _SHORT
    if _are_summaries(prompts):
        return _SUMMARIES
    return _TEXT


# English articles and signs are dropped by the metric, so commands and code are no short answers.
def _are_short(references: References) -> bool:
    texts: list[str] = []
    for of_prompt in references:
        texts += of_prompt
    if not texts:
        return False
    words = median(map(_count_words, texts))
    if words > _FEW_WORDS:
        return False
    # One long or structured reference must not decide for all of them.
    plain = list(filter(_is_plain, texts))
    count = len(texts)
    return 2 * len(plain) > count


def _is_plain(text: str) -> bool:
    """Whether signs at the ends of words are its only ones, unlike those of a command."""
    words = []
    for word in text.split():
        inner = word.strip(_SIGNS)
        words.append(inner)
    together = "".join(words)
    # Another alphabet would lose nothing to the normaliser, and gain nothing by it.
    return together.isalnum() and together.isascii()


def _are_summaries(prompts: Sequence[Prompt]) -> bool:
    if not prompts:
        return False
    questions = [text_of(prompt.messages) for prompt in prompts]
    answers = [prompt.references[0] for prompt in prompts]
    asked = median(map(_count_words, questions))
    answered = median(map(_count_words, answers))
    # Both: a short question has a short answer, and is no text to be summed up.
    is_long = asked > _MANY_WORDS
    is_shorter = answered * _SHORTER <= asked
    return is_long and is_shorter


def _count_words(text: str) -> int:
    words = text.split()
    return len(words)
