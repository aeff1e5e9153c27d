"""Reviews in MLflow: each answer a trace of its own, and a queue for each person who rates.

A trace shows the prompt and one answer, and nothing of who gave it. The queues are in an experiment
of their own: whoever may see only that one cannot look answers up among the evidence of runs.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.rating.collect import SAFE, SCORE, Written
from pipelines.rating.criteria import CRITERIA
from pipelines.rating.plan import HIGHEST, LOWEST, ItemId
from pipelines.rating.sample import Shown
from pipelines.rating.seen import PREVIEW, Seen
from pipelines.values.dataset import Message
from registry.mlflow.connection import REVIEWS, Connection

if TYPE_CHECKING:
    from mlflow.tracing.client import TracingClient

_KIND = ("mlflow.experimentKind", "genai_development")
"""MLflow's pages open such an experiment at its traces, beside which the reviews are."""


class Reviews:
    """The reviews of one MLflow. Every call may raise `RegistryError`, as `Connection.attempt`."""

    def __init__(self, connection: Connection) -> None:
        self._mlflow = connection

    def experiment(self) -> str:
        """Id of the experiment of reviews; created where it is missing."""
        return self._mlflow.attempt(self._experiment)

    def publish(
        self, title: str, shown: Sequence[Shown], reviewers: Sequence[str]
    ) -> None:
        """Log every item as a trace, in this order, and give each person a queue of all of them."""
        experiment = self.experiment()
        schemas = self._mlflow.attempt(lambda: self._schemas(experiment))
        # One after the other in the shuffled order, which is the order of the queue.
        for each in shown:
            self._log(experiment, each)
        items = [each.item.id for each in shown]
        for reviewer in reviewers:
            self._give(
                experiment,
                f"{title} for {reviewer}",
                reviewer,
                schemas,
                items,
            )

    def read(self, items: Sequence[ItemId]) -> tuple[Written, ...]:
        """Everything that anybody wrote about these items, also what they corrected later."""
        found: list[Written] = []
        for item in items:
            of_item = self._read_item(item)
            found.extend(of_item)
        return tuple(found)

    def read_texts(self, items: Sequence[ItemId]) -> dict[ItemId, Seen]:
        """What is shown of each of these items now; without those that are not there."""
        found = {}
        for item in items:
            seen = self._read_texts(item)
            # One that was deleted has no rating either.
            if seen is not None:
                found[item] = seen
        return found

    @property
    def _traces(self) -> "TracingClient":
        from mlflow.tracing.client import TracingClient

        return TracingClient(self._mlflow.uri)

    def _experiment(self) -> str:
        experiment = self._mlflow.experiment(REVIEWS)
        client = self._mlflow.client
        # At each call: whoever made the experiment by hand set no kind.
        client.set_experiment_tag(experiment, *_KIND)
        return experiment

    def _schemas(self, experiment: str) -> list[str]:
        """The ids of both questions; MLflow's pages ask them of each item."""
        from mlflow.genai.label_schemas import InputCategorical, InputPassFail

        options = [str(score) for score in range(LOWEST, HIGHEST + 1)]
        questions = {
            SCORE: InputCategorical(options=options),
            SAFE: InputPassFail(positive_label="Safe", negative_label="Unsafe"),
        }
        traces = self._traces
        # MLflow has no public names for calls at another address than its global one.
        listed = traces._list_label_schemas(experiment)  # noqa: SLF001
        known = {schema.name: schema.schema_id for schema in listed}
        for name, asked in questions.items():
            if name not in known:
                made = traces._create_label_schema(  # noqa: SLF001
                    experiment,
                    name=name,
                    type="feedback",
                    input=asked,  # type: ignore[arg-type] # a common type of the two
                    instruction=CRITERIA[name],
                )
                known[name] = made.schema_id
        return [str(known[name]) for name in questions]

    def _log(self, experiment: str, shown: Shown) -> None:
        from mlflow.exceptions import MlflowException

        def log() -> None:
            traces = self._traces
            # A lost answer may have logged it: look before trying again.
            try:
                traces.get_trace_info(shown.item.id)
            except MlflowException:
                traces.start_trace(_describe(experiment, shown))
                span = _span(shown)
                traces.log_spans(experiment, [span])

        self._mlflow.attempt(log)

    def _give(
        self,
        experiment: str,
        name: str,
        reviewer: str,
        schemas: list[str],
        items: list[str],
    ) -> None:
        traces = self._traces
        queue = self._mlflow.attempt(
            lambda: traces._create_review_queue(  # noqa: SLF001
                experiment,
                name=name,
                queue_type="custom",
                users=[reviewer],
                schema_ids=schemas,
            )
        )
        self._mlflow.attempt(
            lambda: traces._add_items_to_review_queue(  # noqa: SLF001
                queue.queue_id, item_ids=items
            )
        )

    def _read_texts(self, item: ItemId) -> Seen | None:
        traces = self._traces
        info = self._mlflow.look_up(lambda: traces.get_trace_info(item))
        if info is None:
            return None
        # An item whose text was taken away is there none the less: its texts are none.
        trace = self._mlflow.look_up(lambda: _trace_of(traces, item))
        return _seen(trace)

    def _read_item(self, item: ItemId) -> Iterator[Written]:
        traces = self._traces
        info = self._mlflow.look_up(lambda: traces.get_trace_info(item))
        # Deleted with what was said of it: nothing of it counts.
        if info is None:
            return
        # What was overridden is the older one, also within one millisecond.
        assessments = sorted(info.assessments or (), key=_is_current)
        for assessment in assessments:
            # Also one that was overridden: a correction after the end takes no rating away.
            if assessment.feedback is not None:
                yield _parse(item, assessment)


def _is_current(assessment: Any) -> bool:
    # Only False says that it was overridden: it may be missing, too.
    return assessment.valid is not False


def _parse(item: ItemId, assessment: Any) -> Written:
    source = assessment.source
    return Written(
        item=item,
        by=str(source.source_id),
        is_by_person=source.source_type == "HUMAN",
        question=str(assessment.name),
        answer=assessment.feedback.value,
        at_ms=int(assessment.last_update_time_ms or assessment.create_time_ms),
    )


def _trace_of(traces: "TracingClient", item: ItemId) -> Any:
    """The trace with its texts; None where MLflow cannot read them."""
    from mlflow.exceptions import MlflowException

    try:
        return traces.get_trace(item)
    # A database without a server before it: MLflow reads the damaged text in this process.
    except ValueError:
        return None
    except MlflowException as error:
        reason = str(error)
        # Whoever damages a span must not keep the review from its end.
        if "corrupted" in reason or "missing span" in reason:
            return None
        raise


def _seen(trace: Any) -> Seen:
    """The texts of a trace; without any message where it is no trace of a review."""
    try:
        (span,) = trace.data.spans
        (choice,) = span.outputs["choices"]
        turns = span.inputs["messages"]
        messages = map(Message.model_validate, turns)
        said = choice["message"]
        info = trace.info
        return Seen(
            messages=tuple(messages),
            answer=said["content"],
            asked_preview=str(info.request_preview),
            answer_preview=str(info.response_preview),
        )
    # Anybody may have written anything there: whatever it is, it was not sealed.
    except (AttributeError, KeyError, TypeError, ValueError):
        return Seen(messages=(), answer="", asked_preview="", answer_preview="")


def _conversation(shown: Shown) -> list[dict[str, str]]:
    return [
        {"role": message.role, "content": message.content}
        for message in shown.prompt.messages
    ]


def _describe(experiment: str, shown: Shown) -> Any:
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    last = shown.prompt.messages[-1].content
    return TraceInfo(
        trace_id=shown.item.id,
        trace_location=TraceLocation.from_experiment_id(experiment),
        request_time=_now_ns() // 10**6,
        # The same for all: how long an answer took would tell the two apart.
        execution_duration=0,
        state=TraceState.OK,
        request_preview=last[:PREVIEW],
        response_preview=shown.answer[:PREVIEW],
    )


def _span(shown: Shown) -> Any:
    """The one span of a trace, which MLflow's pages show as a conversation."""
    from mlflow.entities import Span
    from mlflow.tracing.utils import build_otel_context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Status, StatusCode

    # The span has the id of its trace, as MLflow expects of a root.
    number = int(shown.item.id.removeprefix("tr-"), 16)
    at = _now_ns()
    answer = {"role": "assistant", "content": shown.answer}
    attributes = {
        "mlflow.traceRequestId": shown.item.id,
        "mlflow.spanType": "CHAT_MODEL",
        "mlflow.spanInputs": {"messages": _conversation(shown)},
        "mlflow.spanOutputs": {"choices": [{"index": 0, "message": answer}]},
    }
    span = ReadableSpan(
        name="answer",
        context=build_otel_context(number, number % 2**64 or 1),
        start_time=at,
        end_time=at,
        attributes={key: json.dumps(value) for key, value in attributes.items()},
        status=Status(StatusCode.OK),
        resource=Resource.get_empty(),
    )
    return Span(span)


def _now_ns() -> int:
    return time.time_ns()
