"""The reference engine: transformers on a thread of its own, many answers at once.

transformers has a continuous batching of its own. It draws all samples of a process from one
generator, knows no stop strings and no adapter by request, so that its answers would depend on
their neighbours: the runners here keep rows apart.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.engines import Cancel, Deliver, Form, GenerationRequest
from pipelines.engines.adapter_switch import AdapterSwitch
from pipelines.engines.json_form import JsonForms
from pipelines.engines.model_texts import ModelTexts
from pipelines.engines.plain_text import PlainText
from pipelines.engines.refusal import Refusal
from pipelines.engines.row_model import Rows
from pipelines.engines.running_answer import RunningAnswer
from pipelines.engines.worker import Worker, report_failure
from pipelines.models.language_model import LanguageModel
from pipelines.values.dataset import Message
from pipelines.values.serving_spec import ServingSpec

if TYPE_CHECKING:
    from pipelines.engines.runners import Runner

ROWS = 16
"""Answers at once. A longer step would make each of them slower than a person reads."""
QUEUE_LENGTH = 32
"""Answers that wait. A longer queue only hides that clients wait too long."""
# Of the one adapter that there is.
_ADAPTER = 1


class TransformersEngine:
    """One base in memory, and one adapter on it that is switched off for the base's own name."""

    def __init__(
        self,
        language: LanguageModel,
        specs: Mapping[str, ServingSpec],
        queue_length: int = QUEUE_LENGTH,
        rows: int = ROWS,
        compiled: Rows[Any] | None = None,
    ) -> None:
        """`compiled` computes rows instead of the loaded weights, which are not needed then."""
        self.specs = specs
        self.context_tokens = language.context_tokens
        self._language = language
        self._texts = ModelTexts(language.encoder, specs)
        self._json_forms = JsonForms(language.encoder)
        self._closing = threading.Event()
        self._has_adapter = has_adapter(language, specs)
        self._runner = self._open_runner(rows, compiled)
        self._worker = Worker(self._runner, queue_length, self._closing)

    @property
    def is_ready(self) -> bool:
        """Whether the worker runs and takes requests."""
        return self._worker.is_ready

    def prompt_ids(self, messages: Sequence[Message], model: str) -> list[int]:
        """Token ids of a conversation with a model, as `ModelTexts` has them."""
        return self._texts.prompt_ids(messages, model)

    def plain_text(self, model: str) -> PlainText:
        """Text outside of conversations, as `ModelTexts` has it."""
        return self._texts.plain_text(model)

    def json_form(self, schema: str) -> Form:
        """What holds answers to a JSON Schema; `Refusal` where they cannot be held to it."""
        return self._json_forms.compile(schema)

    def submit(self, request: GenerationRequest, deliver: Deliver) -> Cancel:
        """Queue a request; the returned function cancels it, queued or running.

        `Refusal` where the engine has stopped, its queue is full, or it lacks what is asked for.
        """
        check_can(self._runner, request)
        adapter = _ADAPTER if self._uses_adapter(request.model) else None
        answer = RunningAnswer(request, deliver, self._language.encoder, adapter)
        return self._worker.submit(answer)

    def close(self) -> None:
        """Cancel what runs, fail what waits, and stop the thread."""
        self._worker.close()

    def _open_runner(self, rows: int, compiled: Rows[Any] | None) -> "Runner":
        # Here, with torch: importing this module imports neither.
        from pipelines.engines.runners import OneByOne, Together
        from pipelines.engines.slot_model import open_slots

        language = self._language
        encoder = language.encoder
        if compiled is not None:
            return Together(encoder, compiled, report_failure, rows)
        switch = AdapterSwitch(language.model, has_adapter=self._has_adapter)
        slots = open_slots(language)
        if slots is None:
            return OneByOne(
                language,
                lambda adapter: switch.turn(on=adapter is not None),
                report_failure,
                self._closing,
            )
        own = Rows(*slots, switch)
        return Together(encoder, own, report_failure, rows)

    def _uses_adapter(self, model: str) -> bool:
        spec = self.specs[model]
        is_tuned = spec.adapter_sha256 is not None
        return is_tuned and self._has_adapter


def check_can(runner: "Runner", request: GenerationRequest) -> None:
    """Return unless the request asks for what this runner cannot give: a `Refusal`."""
    if request.scores_prompt and not runner.scores_prompts:
        raise Refusal(
            "This base model answers one request after the other, "
            "and does not score prompts: leave echo or logprobs out.",
            code="unsupported_parameter",
            param="echo",
        )


def has_adapter(language: LanguageModel, specs: Mapping[str, ServingSpec]) -> bool:
    """Whether weights were put on the base.

    peft wraps it only then: without any, as with a prompt, there is nothing to switch off.
    """
    if language.encoder.prompt is not None:
        return False
    adapters = [spec.adapter_sha256 for spec in specs.values()]
    return any(adapter is not None for adapter in adapters)
