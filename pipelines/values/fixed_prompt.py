"""A prompt that is released as an adapter is: it stands before every conversation.

    the prompt's system message, then that of the conversation   one message
    the prompt's examples                                        user and assistant by turns
    the conversation

The encoder puts it there, so that scoring and serving cannot differ.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from core.files import digest_of_json, digest_of_text
from core.value import Value
from pipelines.values.dataset import Message
from pipelines.values.examples import digest_of_messages

FILE = "prompt.json"
"""The only file of such a candidate, where another one has its weights."""
_LONGEST = 1_000_000
Text = Annotated[str, Field(min_length=1, max_length=_LONGEST)]
FEW_SHOT = "few-shot"
"""What a command calls the examples that the few-shot search chooses on dev rows."""


class FixedPrompt(Value):
    """A system message, examples, or both."""

    system: Text | None = None
    examples: tuple[Message, ...] = ()

    @model_validator(mode="after")
    def _check_turns(self) -> Self:
        """Questions and answers by turns: else a template would refuse every conversation."""
        # Nothing before the conversation would be the base under another name.
        if self.system is None and not self.examples:
            raise ValueError("it holds neither a system message nor an example")
        if self.system is not None and not self.system.strip():
            raise ValueError("its system message is blank")
        roles = [message.role for message in self.examples]
        if roles != ["user", "assistant"] * (len(roles) // 2):
            raise ValueError("its examples are not user and assistant by turns")
        return self

    def before(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation behind the prompt."""
        own, conversation = _take_system(messages)
        parts = [text for text in (self.system, own) if text is not None]
        # One message: most templates take no second one.
        system = [Message(role="system", content="\n\n".join(parts))] if parts else []
        return (*system, *self.examples, *conversation)

    def record(self, same_as: Literal["few_shot"] | None = None) -> "PromptRecord":
        """What evidence keeps of it: digests, no texts."""
        system = None if self.system is None else digest_of_text(self.system)
        return PromptRecord(
            system_sha256=system,
            prefix_sha256=digest_of_messages(self.examples),
            examples=len(self.examples) // 2,
            same_as=same_as,
        )


class PromptRecord(Value):
    """A released prompt by its digests."""

    system_sha256: str | None
    prefix_sha256: str = Field(description="Of the examples, as evidence names them.")
    examples: int = Field(ge=0)
    same_as: Literal["few_shot"] | None = Field(
        default=None,
        description="The baseline that it is, with which it is not compared.",
    )

    def contradicts(self, few_shot_sha256: str | None) -> bool:
        """Whether it claims to be the few-shot baseline, and is another prompt than that.

        Without the comparison nothing would show that a worse prompt is worse.
        """
        if self.same_as is None:
            return False
        has_same_examples = self.prefix_sha256 == few_shot_sha256
        return not has_same_examples or self.system_sha256 is not None

    @property
    def text(self) -> str:
        """What a verdict and a page say of it."""
        parts = []
        if self.system_sha256 is not None:
            parts.append("a system message")
        if self.examples:
            parts.append(f"{self.examples} examples")
        named = " and ".join(parts)
        chosen = ", which the few-shot search chose on dev rows" if self.same_as else ""
        return (
            f"A prompt before every conversation, {named}{chosen}; nothing was trained"
        )


def key_of_prompt(prompt: FixedPrompt) -> str:
    """The identity of a prompt, by what it says and not by how its file is written."""
    return digest_of_json(prompt.model_dump(mode="json"))


def _take_system(
    messages: Sequence[Message],
) -> tuple[str | None, Sequence[Message]]:
    if messages and messages[0].role == "system":
        return messages[0].content, messages[1:]
    return None, messages
