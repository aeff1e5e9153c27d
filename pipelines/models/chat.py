"""How a conversation becomes tokens: the one encoder that training, scoring and serving share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel, UnusableRow
from pipelines.values.dataset import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Private-use characters: they replace a message's text while the template is rendered.
_MARK = "\ue000{}\ue001"


@dataclass(frozen=True)
class ChatEncoder:
    """Tokenizer and template.

    What a user types is text: `<|im_start|>` in a message never becomes a control token.
    """

    tokenizer: "PreTrainedTokenizerBase"
    template: str | None
    end_id: int

    @classmethod
    def load(cls, folder: Path, template: str | None) -> "ChatEncoder":
        """Read the tokenizer in `folder`; `UnusableBaseModel` where tokenizer or template fail.

        `template` None is completion mode: the prompt, a line end, the completion.
        """
        from transformers import AutoTokenizer

        # From this folder alone: neither the network nor code in it is used.
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        # tokenizers has no error class of its own, and damaged files end in any error.
        except Exception as error:
            raise UnusableBaseModel(
                f"{folder} holds no tokenizer that loads ({_first_line(error)}). "
                "Put tokenizer.json beside config.json."
            ) from error
        end_id = _find_end_of_turn(tokenizer, template, folder)
        return cls(tokenizer=tokenizer, template=template, end_id=end_id)

    @property
    def end_ids(self) -> list[int]:
        """Tokens at which generation stops."""
        # A template's end of turn and the tokenizer's end of sequence may differ.
        end_of_sequence = int(self.tokenizer.eos_token_id)
        ids = {self.end_id, end_of_sequence}
        return sorted(ids)

    @property
    def pad_id(self) -> int:
        """Token that fills a batch; masked everywhere, so that its identity does not matter."""
        pad_id = self.tokenizer.pad_token_id
        if pad_id is None:
            pad_id = self.tokenizer.eos_token_id
        return int(pad_id)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Encode messages up to where the answer begins.

        `UnusableRow` where the template refuses the conversation, or rewrites a message
        that holds a control token.
        """
        if self.template is None:
            text = "".join(f"{message.content}\n" for message in messages)
            return self._encode_text(text)
        # A message that looks like markup must not become markup.
        if self._holds_control_token(messages):
            return self._encode_guarded(messages)
        conversation = [message.model_dump() for message in messages]
        prompt = self._render(conversation)
        return self._encode_markup(prompt)

    def completion_ids(self, text: str) -> list[int]:
        """Encode an answer, end-of-turn token included."""
        ids = self._encode_text(text)
        ids.append(self.end_id)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated tokens, without control tokens."""
        text = self.tokenizer.decode(
            list(ids),
            skip_special_tokens=True,
        )
        return str(text)

    def _render(self, conversation: list[dict[str, str]], **options: Any) -> str:
        from jinja2 import TemplateError

        # The prompt ends with what the template writes before an answer.
        options.setdefault("add_generation_prompt", True)
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    conversation, chat_template=self.template, tokenize=False, **options
                )
            )
        except TemplateError as error:
            roles = ", ".join(message["role"] for message in conversation)
            raise UnusableRow(
                f"The chat template refuses a conversation of {roles} "
                f"({_first_line(error)}). Correct the row or the template."
            ) from error

    def _encode_text(self, text: str) -> list[int]:
        """Encode what a person wrote: a control token in it is split into plain tokens."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True
        )
        return list(encoding["input_ids"])

    def _encode_markup(self, text: str) -> list[int]:
        """Encode what the template wrote: its control tokens count as such."""
        encoding = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=False
        )
        return list(encoding["input_ids"])

    def _holds_control_token(self, messages: Sequence[Message]) -> bool:
        control_tokens = self.tokenizer.get_added_vocab()
        return any(
            token in message.content for message in messages for token in control_tokens
        )

    def _encode_guarded(self, messages: Sequence[Message]) -> list[int]:
        """Render with a mark for each message, then encode markup as markup, messages as text."""
        marks = [_MARK.format(number) for number in range(len(messages))]
        marked = [
            {"role": message.role, "content": mark}
            for message, mark in zip(messages, marks, strict=True)
        ]
        rest = self._render(marked)
        ids: list[int] = []
        for message, mark in zip(messages, marks, strict=True):
            markup, separator, rest = rest.partition(mark)
            if not separator:
                raise UnusableRow(
                    f"A message holds a control token ({message.content[:40]!r}) "
                    "and the chat template rewrites it. Remove the token."
                )
            ids += self._encode_markup(markup)
            ids += self._encode_text(message.content)
        return ids + self._encode_markup(rest)


def _find_end_of_turn(
    tokenizer: "PreTrainedTokenizerBase", template: str | None, folder: Path
) -> int:
    """Return the first control token that the template writes after an answer.

    Where it writes none, the tokenizer's end-of-sequence token. `UnusableBaseModel` where
    there is no such token, or where the template does not show what a user says.
    """
    if tokenizer.eos_token_id is None:
        raise UnusableBaseModel(
            f"The tokenizer in {folder} has no end-of-sequence token. "
            "Set eos_token in tokenizer_config.json."
        )
    if template is None:
        return int(tokenizer.eos_token_id)
    answer, question = _MARK.format(0), _MARK.format(1)
    rendered = _render_example(tokenizer, template, question, answer)
    # Such a template trains and serves without an error, and without the question.
    if question not in rendered:
        raise UnusableBaseModel(
            "The chat template leaves out what a user says. "
            "Correct it, or give another with --chat-template."
        )
    _, _, after_answer = rendered.partition(answer)
    token = _find_control_token(tokenizer, after_answer)
    return int(tokenizer.eos_token_id if token is None else token)


def _find_control_token(tokenizer: "PreTrainedTokenizerBase", text: str) -> int | None:
    encoding = tokenizer(text, add_special_tokens=False)
    control_ids = set(tokenizer.all_special_ids)
    # Not only the first token: white space may come before the control token.
    for token in encoding["input_ids"]:
        if token in control_ids:
            return int(token)
    return None


def _render_example(
    tokenizer: "PreTrainedTokenizerBase", template: str, question: str, answer: str
) -> str:
    from jinja2 import TemplateError

    conversation = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    try:
        return str(
            tokenizer.apply_chat_template(
                conversation, chat_template=template, tokenize=False
            )
        )
    except TemplateError as error:
        raise UnusableBaseModel(
            f"The chat template does not render ({_first_line(error)}). "
            "Correct it, or give another with --chat-template."
        ) from error


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    line, _, _ = text.partition("\n")
    return line[:160]
