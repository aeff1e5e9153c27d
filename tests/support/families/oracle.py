"""What plain transformers says of a base model: one row at a time, no cache, no settings.

Nothing here comes from the code under test. Greedy is the token with the largest logit of a whole
forward pass; a loss is the sum over one row's completion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.values.dataset import Message

_LONGEST_TAIL = 12
"""Tokens that a template may write behind the end of an answer."""
_TIE = 1e-5
"""Logits this close, beside the largest, are equal: no float tells which is greater."""


@dataclass(frozen=True)
class Oracle:
    """A base model with its own tokenizer and its own template.

    `stops` are the ids at which the family ends an answer, the template's own first.
    """

    tokenizer: Any
    model: Any
    stops: tuple[int, ...]
    has_template: bool
    options: Mapping[str, Any]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The tokens that the family's software would give to the model."""
        if not self.has_template:
            text = "".join(f"{message.content}\n" for message in messages)
            return self._text_ids(text)
        turns = [message.model_dump() for message in messages]
        return self._rendered(turns, add_generation_prompt=True)

    def example_ids(
        self, messages: Sequence[Message], completion: str
    ) -> tuple[list[int], list[int]]:
        """Prompt and completion, up to and including the token that ends the answer."""
        prompt = self.prompt_ids(messages)
        turns = [message.model_dump() for message in messages]
        turns.append({"role": "assistant", "content": completion})
        if not self.has_template:
            text = "".join(f"{message.content}\n" for message in messages)
            whole = [*self._text_ids(text + completion), self.stops[0]]
        else:
            whole = self._rendered(turns)
        if self.stops[0] not in whole[len(prompt) :]:
            # The template writes no end: the answer's text, and the tokenizer's.
            whole = [*self._rendered(turns, continue_final_message=True), self.stops[0]]
        assert whole[: len(prompt)] == prompt, "the family's own prompt is no beginning"
        rest = whole[len(prompt) :]
        end = rest.index(self.stops[0])
        assert len(rest) - end <= _LONGEST_TAIL
        return prompt, rest[: end + 1]

    def answer(self, prompt: Sequence[int], max_new_tokens: int) -> tuple[int, ...]:
        """The greedy answer to one prompt, without the token that ends it."""
        import torch

        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(max_new_tokens):
                token = int(self._logits(ids)[-1].argmax())
                if token in self.stops:
                    break
                ids.append(token)
        return tuple(ids[len(prompt) :])

    def agrees(
        self, prompt: Sequence[int], answer: Sequence[int], max_new_tokens: int
    ) -> bool:
        """Whether `answer` is the greedy one, up to a place where two tokens are as likely."""
        expected = self.answer(prompt, max_new_tokens)
        if tuple(answer) == expected:
            return True
        shared = _count_shared(answer, expected)
        # None: the answer ends here, with any of the tokens that end one.
        choices = [
            ids[shared] if shared < len(ids) else None for ids in (answer, expected)
        ]
        return self._is_tie([*prompt, *expected[:shared]], choices)

    def loss(self, prompt: Sequence[int], completion: Sequence[int]) -> float:
        """Nats of one completion, summed in double precision."""
        import torch

        whole = [*prompt, *completion]
        with torch.inference_mode():
            nats = -self._logits(whole).double().log_softmax(-1)
        places = range(len(prompt) - 1, len(whole) - 1)
        return sum(float(nats[place, whole[place + 1]]) for place in places)

    def generated_answer(
        self, prompt: Sequence[int], max_new_tokens: int
    ) -> tuple[int, ...]:
        """The same answer by transformers' own `generate`, to check this oracle by."""
        import torch
        from transformers import GenerationConfig

        self.model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
        row = torch.tensor([list(prompt)])
        output = self.model.generate(
            row,
            attention_mask=torch.ones_like(row),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(self.stops),
            pad_token_id=self.stops[0],
        )
        answer = output[0, len(prompt) :].tolist()
        return tuple(token for token in answer if token not in self.stops)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _text_ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        # A tokenizer that ends every text would end the prompt before its answer.
        while ids and ids[-1] in self.stops:
            ids = ids[:-1]
        return ids

    def _rendered(self, turns: list[dict[str, str]], **more: Any) -> list[int]:
        encoding = self.tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, **self.options, **more
        )
        return list(encoding["input_ids"])

    def _is_tie(self, ids: Sequence[int], choices: Sequence[int | None]) -> bool:
        import torch

        with torch.inference_mode():
            logits = self._logits(ids)[-1]
        best = [
            logits[list(self.stops) if choice is None else [choice]].max()
            for choice in choices
        ]
        return abs(float(best[0] - best[1])) <= _TIE * float(logits.abs().max())

    def _logits(self, ids: Sequence[int]) -> Any:
        """Logits of one whole row, shape (tokens, vocabulary)."""
        import torch

        output = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False)
        return output.logits[0].float()


def _count_shared(first: Sequence[int], second: Sequence[int]) -> int:
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one != other:
            break
        shared += 1
    return shared


def consult(
    folder: Path,
    stops: Sequence[str],
    *,
    has_template: bool,
    options: Mapping[str, Any],
    adapter: Path | None = None,
) -> Oracle:
    """Load what is in `folder`, and an adapter on it, with plain transformers and peft."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        str(folder), dtype=torch.float32, local_files_only=True
    )
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter))
    numbers = tuple(int(tokenizer.convert_tokens_to_ids(token)) for token in stops)
    return Oracle(tokenizer, model.eval(), numbers, has_template, options)
