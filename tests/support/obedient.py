"""A base model that answers well after one system message, and badly without it."""

import random
from pathlib import Path

from pipelines.models.chat import ChatEncoder, Example
from pipelines.values.dataset import Message
from tests.support.journey import learnable_rows
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_base

SYSTEM = "Z"
"""The system message that this base was trained to obey."""
_STEPS = 120
_BATCH = 32


def make_obedient_base(folder: Path) -> Path:
    """Train all weights of the tiny base for a few seconds, and save them as a base."""
    import torch
    from transformers import AutoModelForCausalLM

    make_tiny_base(folder)
    examples = _examples(ChatEncoder.load(folder, CHAT_TEMPLATE))
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    dice = random.Random(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for _ in range(_STEPS):
            ids, labels, mask = _batch(dice.sample(examples, _BATCH))
            loss = model(input_ids=ids, labels=labels, attention_mask=mask).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    model.save_pretrained(str(folder))
    return folder


def _examples(encoder: ChatEncoder) -> list[Example]:
    system = Message(role="system", content=SYSTEM)
    examples = []
    for row in learnable_rows(600):
        question = Message(role="user", content=row["prompt"])
        # The same question with and without: only the system message makes the difference.
        examples.append(encoder.encode_example((system, question), row["completion"]))
        examples.append(encoder.encode_example((question,), "no"))
    return examples


def _batch(examples: list[Example]):  # type: ignore[no-untyped-def]  # noqa: ANN202
    import torch

    longest = max(len(prompt) + len(answer) for prompt, answer in examples)
    shape = (len(examples), longest)
    ids = torch.zeros(shape, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    # -100 is no label: the prompt is not learned.
    labels = torch.full(shape, -100)
    for place, (prompt, answer) in enumerate(examples):
        whole = [*prompt, *answer]
        ids[place, : len(whole)] = torch.tensor(whole)
        mask[place, : len(whole)] = 1
        labels[place, len(prompt) : len(whole)] = torch.tensor(answer)
    return ids, labels, mask
