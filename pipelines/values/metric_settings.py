"""What a run may set of a metric: part of the metric's signature, and stored with the evidence."""

from typing import Literal

from pydantic import Field

from core.value import Settable, Value
from pipelines.values.json_schema import JsonSchema

# sacreBLEU's names. Those that need a download are left out, and so is `none`: it cuts less than
# 13a, so that a run could make BLEU coarse by choosing it.
Tokenizer = Literal["13a", "intl", "zh", "ja-mecab", "ko-mecab", "char"]


class BleuSettings(Settable):
    """How BLEU cuts texts into tokens, and which orders of n-grams it counts."""

    tokenize: Tokenizer = Field(
        default="13a", description="sacreBLEU's tokenizer for the answers' language."
    )
    effective_order: bool = Field(
        default=False,
        description="Count only orders of n-grams that the answers have: "
        "for answers under four tokens.",
    )


class MetricSettings(Value):
    """The settings of every metric that has some: how stored statistics were counted."""

    bleu: BleuSettings = BleuSettings()
    # Left out where there is none: older evidence has no such setting.
    json_schema: JsonSchema | None = Field(
        default=None, exclude_if=lambda schema: schema is None
    )
