"""Which token comes next: the likeliest, or one that is drawn by a request's own chance."""

import math
from typing import TYPE_CHECKING

from pipelines.engines import Constraint, GenerationRequest, TokenScore
from pipelines.models.chat import ChatEncoder

if TYPE_CHECKING:
    import torch


# Under it a logit divided by the temperature is too large for float32, and a probability is none.
_LOWEST_TEMPERATURE = 1e-30
_NOT_FINITE = "The model computed logits that are not finite."


class TokenChooser:
    """Chooses the tokens of one answer.

    Its chance is its own: a seed draws the same tokens whatever else the engine answers.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._temperature = max(request.temperature, _LOWEST_TEMPERATURE)
        self._top_p = request.top_p
        self._chance = None
        samples = request.temperature > 0
        if samples:
            seed = request.seed
            self._chance = _make_chance(seed)

    def choose(
        self, logits: "torch.Tensor", constraint: Constraint | None = None
    ) -> int:
        """The next token's id, from float32 logits of shape (vocabulary,).

        `ValueError` where the model computed no number for it, as after an overflow.
        """
        likelihoods = logits.cpu()
        likeliest = _find_likeliest(likelihoods)
        if constraint is not None:
            # Behind the first look: it would hide a NaN.
            likelihoods = constraint.mask(likelihoods)
            likeliest = _find_likeliest(likelihoods)
        if self._chance is None:
            return likeliest
        import torch

        # The generator lives on the CPU, so that a seed draws the same beside every device.
        # None is over 0, so that the likeliest is never too large to be divided.
        differences = likelihoods - likelihoods[likeliest]
        scaled = differences / self._temperature
        probabilities = scaled.softmax(-1)
        if self._top_p < 1:
            probabilities = _keep_likeliest(probabilities, self._top_p)
        drawn = torch.multinomial(
            probabilities,
            1,
            generator=self._chance,
        )
        return int(drawn)


def score_token(
    logits: "torch.Tensor", token: int, count: int, encoder: ChatEncoder
) -> TokenScore:
    """A token with the logarithm of its probability, and the `count` likeliest in its place.

    By the model's own distribution, before temperature, `top_p` and the form of the answer: logits
    in float32 of shape (vocabulary,). `ValueError` where they are not finite.
    """
    logarithms = logits.log_softmax(-1)
    if bool(logarithms[token].isnan()):
        raise ValueError(_NOT_FINITE)
    likeliest = logarithms.topk(count)
    ids = likeliest.indices.tolist()
    values = likeliest.values.tolist()
    top = []
    for other, value in zip(ids, values, strict=True):
        text = encoder.show([other])
        top.append((other, text, value))
    text = encoder.show([token])
    logarithm = logarithms[token]
    return TokenScore(
        id=token,
        text=text,
        logprob=float(logarithm),
        top=tuple(top),
    )


def _find_likeliest(logits: "torch.Tensor") -> int:
    # By numpy: torch would wake its other threads for this, and those hold a processor for a while.
    values = logits.numpy()
    # That of a NaN, where there is one.
    likeliest = int(values.argmax())
    if not math.isfinite(values[likeliest]):
        raise ValueError(_NOT_FINITE)
    return likeliest


def _make_chance(seed: int | None) -> "torch.Generator":
    import torch

    chance = torch.Generator()
    if seed is None:
        chance.seed()
    else:
        chance.manual_seed(seed)
    return chance


def _keep_likeliest(probabilities: "torch.Tensor", top_p: float) -> "torch.Tensor":
    """Set all to zero but the fewest likeliest whose sum reaches `top_p`."""
    import torch

    values, ids = probabilities.sort(descending=True)
    sum_before = values.cumsum(-1) - values
    is_cut = sum_before >= top_p
    # Also where `top_p` is so small that it is 0 in float32.
    is_cut[0] = False
    values[is_cut] = 0
    kept = torch.zeros_like(probabilities)
    return kept.scatter(-1, ids, values)
