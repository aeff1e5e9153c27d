"""Adapters of many forms on a tiny base, as peft saves them."""

import warnings
from pathlib import Path
from typing import Any

PLAIN = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
FORMS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "wide": {"r": 24, "lora_alpha": 6, "target_modules": "all-linear"},
    "few-layers": {"r": 3, "lora_alpha": 9, "target_modules": ["q_proj", "v_proj"]},
    "rank-stabilised": {**PLAIN, "r": 6, "use_rslora": True},
    "by-patterns": {
        **PLAIN,
        "rank_pattern": {"down_proj": 12, "layers.0.self_attn.o_proj": 1},
        "alpha_pattern": {"up_proj": 3},
    },
}
"""Settings of adapters that may share a process, by a name."""


def write_adapter(
    base_folder: Path, folder: Path, seed: int, settings: dict[str, Any]
) -> Path:
    """An adapter with those settings of peft, whose weights change answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(task_type="CAUSAL_LM", **settings)
    with torch.random.fork_rng(), warnings.catch_warnings():
        # Of settings that Assay would not train with.
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(str(base_folder))
        model = get_peft_model(base, config)
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.5)
        model.save_pretrained(str(folder))
    return folder
