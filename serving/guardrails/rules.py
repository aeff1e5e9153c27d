"""What guardrails look for, as people write it; without a rule nothing is looked for."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.value import Settable
from pipelines.rows.toxic_words import WORDS
from serving.guardrails.patterns import Action, Pattern
from serving.guardrails.personal import KINDS, personal_patterns
from serving.guardrails.secret_forms import secret_patterns

Word = Annotated[str, Field(min_length=1, max_length=200)]


def _check_expression(text: str) -> str:
    import regex

    try:
        regex.compile(text)
    except regex.error as error:
        raise PydanticCustomError(
            "expression", "no regular expression: {fact}", {"fact": str(error)}
        ) from error
    return text


Expression = Annotated[
    str, Field(min_length=1, max_length=1_000), AfterValidator(_check_expression)
]


class Topic(Settable):
    """Words or patterns that are looked for under one name."""

    # It becomes a label of metrics, and what stands in the place of a masked match.
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
    action: Action = "refuse"
    words: Annotated[tuple[Word, ...], Field(max_length=10_000)] = ()
    patterns: Annotated[tuple[Expression, ...], Field(max_length=100)] = ()

    @model_validator(mode="after")
    def _look_for_something(self) -> Self:
        if not self.words and not self.patterns:
            raise PydanticCustomError(
                "topic",
                "topic {name} has neither words nor patterns",
                {"name": self.name},
            )
        return self

    def compiled(self, seconds: float) -> Iterator[Pattern]:
        """Its patterns; each of those that a person wrote has so long for a text."""
        import regex

        for expression in self.patterns:
            own = regex.compile(expression)
            yield Pattern(self.name, own, self.action, seconds=seconds)
        if self.words:
            words = regex.compile(_any_of(self.words))
            yield Pattern(self.name, words, self.action)


class RequestRules(Settable):
    """What is looked for in the texts of a request. None: it is not looked for."""

    email: Action | None = None
    phone: Action | None = None
    iban: Action | None = None
    card: Action | None = None
    ip: Action | None = None
    secret: Action | None = None
    topics: Annotated[tuple[Topic, ...], Field(max_length=100)] = ()
    # For each regular expression of a topic, and each text. One that needs longer refuses, unless
    # it only counts.
    pattern_seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    # `module:function`, which is given the side and the text.
    hook: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    hook_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0

    def compiled(self) -> tuple[Pattern, ...]:
        """Everything that is looked for."""
        return tuple(self._patterns())

    @property
    def is_empty(self) -> bool:
        """Whether nothing is looked for."""
        return self == type(self)()

    def _patterns(self) -> Iterator[Pattern]:
        # Secrets first: where one holds an address of mail, it is a secret as a whole.
        on_secret = self.secret
        if on_secret is not None:
            yield from secret_patterns(on_secret)
        for kind in KINDS:
            action = getattr(self, kind)
            if action is not None:
                yield from personal_patterns(kind, action)
        for topic in self.topics:
            yield from topic.compiled(self.pattern_seconds)


class AnswerRules(RequestRules):
    """What is looked for in answers."""

    # A short list of English words (pipelines/rows/toxic_words.py); a list of your own is a topic.
    insults: Action | None = None
    # Half of the latest text stood there before.
    repetition: Literal["count", "refuse"] | None = None

    def _patterns(self) -> Iterator[Pattern]:
        yield from super()._patterns()
        if self.insults is not None:
            insults = Topic(name="insults", words=WORDS, action=self.insults)
            yield from insults.compiled(self.pattern_seconds)


class GuardRules(Settable):
    """Both sides."""

    request: RequestRules = RequestRules()
    response: AnswerRules = AnswerRules()


def _any_of(words: tuple[str, ...]) -> str:
    """An expression for any of the words, whole, in whatever case and with any spaces."""
    longest_first = sorted(words, key=len, reverse=True)
    escaped = [
        r"\s{1,3}".join(re.escape(part) for part in word.split())
        for word in longest_first
    ]
    return rf"(?i)(?<!\w)(?:{'|'.join(escaped)})(?!\w)"


def everything() -> tuple[Pattern, ...]:
    """What is masked in records, whatever the rules of guardrails say."""
    kinds = (*KINDS, "secret")
    actions = dict.fromkeys(kinds, "mask")
    return RequestRules.model_validate(actions).compiled()
