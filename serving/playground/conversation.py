"""What is on one page: the questions, each side's answers, and which models are asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.values.dataset import Message
from serving.playground.api import Answer, ServedModel

MOST_CHARACTERS = 20_000
"""Of one question."""
# Each question sends all earlier ones again, and a browser draws every card.
_MOST_EXCHANGES = 200


@dataclass
class Exchange:
    """One question, and the answer of each side."""

    question: str
    answers: tuple[Answer, ...]


@dataclass
class Conversation:
    """Sides see the same questions, and each its own earlier answers."""

    exchanges: list[Exchange] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether a page shows no more of it."""
        return len(self.exchanges) >= _MOST_EXCHANGES

    def ask(self, question: str, models: Sequence[str]) -> Exchange:
        """Begin an exchange: one empty answer for each model."""
        answers = tuple(Answer(model) for model in models)
        exchange = Exchange(question, answers)
        self.exchanges.append(exchange)
        return exchange

    def messages(self, side: int) -> list[Message]:
        """What one side is asked now: everything that it has answered whole, and the last question.

        An answer that broke off, or that no model gave, would be taken for what the model wanted
        to say.
        """
        *earlier, last = self.exchanges
        messages: list[Message] = []
        for exchange in earlier:
            answer = _answer_of(exchange, side)
            # Chat templates want turns by turns: a question goes with its answer.
            if answer is not None and answer.is_whole and answer.is_of_model:
                messages.append(Message(role="user", content=exchange.question))
                messages.append(Message(role="assistant", content=answer.text))
        messages.append(Message(role="user", content=last.question))
        return messages


def first_choice(models: Sequence[ServedModel]) -> tuple[str | None, str | None]:
    """Which two a new page asks: what is released, and the base that it stands on.

    The second is None where that base does not answer by itself.
    """
    if not models:
        return None, None
    # Tuned ones are listed first.
    first = models[0]
    # Another base beside it would show what the base changed, and not what tuning did.
    bases = [
        model.name
        for model in models[1:]
        if model.is_base and model.base_digest == first.base_digest
    ]
    return first.name, bases[0] if bases else None


def _answer_of(exchange: Exchange, side: int) -> Answer | None:
    # The second side may have been chosen after this question.
    if side < len(exchange.answers):
        return exchange.answers[side]
    return None
