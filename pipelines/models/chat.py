"""How a conversation becomes tokens: the one encoder that training, scoring and serving share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UnusableBaseModel, UnusableRow
from pipelines.values.dataset import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\ue000{}\ue001"  # private-use characters: stand for a message's text while the template is rendered


@dataclass(frozen=True)
class ChatEncoder:
    """Tokenizer and template. What a user types is text: `<|im_start|>` in a message never becomes a control token."""

    tokenizer: "PreTrainedTokenizerBase"
    template: str | None
    end_id: int

    @classmethod
    def load(cls, folder: Path, template: str | None) -> "ChatEncoder":
        """Read the tokenizer in `folder`; `template` None is completion mode: the prompt, a line end, the completion."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # tokenizers knows no error of its own, and damaged files end in any
            raise UnusableBaseModel(
                f"{folder} holds no tokenizer that loads ({_one_line(error)}). Put tokenizer.json beside config.json."
            ) from error
        return cls(
            tokenizer=tokenizer,
            template=template,
            end_id=_end_of_turn(tokenizer, template, folder),
        )

    @property
    def end_ids(self) -> list[int]:
        """Tokens at which generation stops."""
        return sorted({self.end_id, int(self.tokenizer.eos_token_id)})

    @property
    def pad_id(self) -> int:
        """Token that fills a batch; masked everywhere, so that its identity does not matter."""
        return int(
            self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else self.tokenizer.eos_token_id
        )

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens up to where the answer begins."""
        if self.template is None:
            return self._text_ids("".join(f"{turn.content}\n" for turn in messages))
        if self._holds_control_token(messages):
            return self._guarded_ids(messages)
        return self._markup_ids(self._render([turn.model_dump() for turn in messages]))

    def completion_ids(self, text: str) -> list[int]:
        """Tokens of an answer, end-of-turn token included."""
        return [*self._text_ids(text), self.end_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, without control tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _render(self, turns: list[dict[str, str]], **options: Any) -> str:
        from jinja2 import TemplateError

        options.setdefault("add_generation_prompt", True)
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    turns, chat_template=self.template, tokenize=False, **options
                )
            )
        except TemplateError as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise UnusableRow(
                f"The chat template refuses a conversation of {roles} ({_one_line(error)}). Mend the row or the template."
            ) from error

    def _text_ids(self, text: str) -> list[int]:
        return list(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
                "input_ids"
            ]
        )

    def _markup_ids(self, text: str) -> list[int]:
        return list(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=False)[
                "input_ids"
            ]
        )

    def _holds_control_token(self, messages: Sequence[Message]) -> bool:
        return any(
            token in turn.content
            for turn in messages
            for token in self.tokenizer.get_added_vocab()
        )

    def _guarded_ids(self, messages: Sequence[Message]) -> list[int]:
        """Render with a mark for each message, then encode markup as markup and the messages as text."""
        marks = [_MARK.format(number) for number in range(len(messages))]
        rest = self._render(
            [
                {"role": turn.role, "content": mark}
                for turn, mark in zip(messages, marks, strict=True)
            ]
        )
        ids: list[int] = []
        for turn, mark in zip(messages, marks, strict=True):
            before, found, rest = rest.partition(mark)
            if not found:
                raise UnusableRow(
                    f"A message holds a control token ({turn.content[:40]!r}) and the chat template rewrites it. Remove the token."
                )
            ids += self._markup_ids(before) + self._text_ids(turn.content)
        return ids + self._markup_ids(rest)


def _end_of_turn(
    tokenizer: "PreTrainedTokenizerBase", template: str | None, folder: Path
) -> int:
    """The first control token that the template writes after an answer, else the tokenizer's end-of-sequence token."""
    from jinja2 import TemplateError

    if tokenizer.eos_token_id is None:
        raise UnusableBaseModel(
            f"The tokenizer in {folder} has no end-of-sequence token. Set eos_token in tokenizer_config.json."
        )
    if template is None:
        return int(tokenizer.eos_token_id)
    mark, question = _MARK.format(0), _MARK.format(1)
    turns = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": mark},
    ]
    try:
        rendered = str(
            tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
        )
    except TemplateError as error:
        raise UnusableBaseModel(
            f"The chat template does not render ({_one_line(error)}). Mend it, or give another with --chat-template."
        ) from error
    if question not in rendered:
        raise UnusableBaseModel(
            "The chat template leaves out what a user says. Mend it, or give another with --chat-template."
        )
    tail = tokenizer(rendered.partition(mark)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    return int(
        next((token for token in tail if token in special), tokenizer.eos_token_id)
    )


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:160]
