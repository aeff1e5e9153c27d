"""An adapter that plain trl trains, without a line of Assay, as somebody else would."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def train_outside(
    base: Path, rows: Sequence[dict[str, str]], folder: Path, scratch: Path, **lora: Any
) -> Path:
    """Train with trl's own defaults but a few steps, and give the folder that peft saved."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(str(base))
    tokenizer.pad_token = "<|endoftext|>"  # noqa: S105 - a control token
    settings = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", **lora}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(base)),
        args=SFTConfig(
            output_dir=str(scratch),
            max_steps=100,
            per_device_train_batch_size=16,
            learning_rate=0.02,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            use_cpu=True,
            bf16=False,
            completion_only_loss=True,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([_conversation(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=LoraConfig(task_type="CAUSAL_LM", **settings),
    )
    trainer.train()
    trainer.save_model(str(folder))
    return folder


def _conversation(row: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
    }
