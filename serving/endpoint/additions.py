"""What is around answering: who watches, what is guarded, what stands in. Each may be absent."""

from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from core.log import say
from core.settings import Settings
from serving.endpoint.call import Call
from serving.endpoint.fallback import Fallback, Forward
from serving.endpoint.guarding import Guardrails
from serving.endpoint.handoff import Handoff
from serving.endpoint.lanes import Lanes
from serving.endpoint.rules import EndpointRules, read_rules
from serving.guardrails.rules import GuardRules
from serving.observing.exchange import exchange_of
from serving.observing.figures import Source
from serving.observing.observer import Observer
from serving.observing.request_log import FeedbackLog, RequestLog
from serving.observing.traces import Traces, open_exporter
from serving.paths import CHAT


def _no_guardrails() -> Guardrails:
    return Guardrails(GuardRules())


@dataclass
class Additions:
    """By themselves: metrics, and nothing else."""

    observer: Observer = field(default_factory=Observer)
    guardrails: Guardrails = field(default_factory=_no_guardrails)
    fallback: Fallback | None = None
    takes_texts_of_feedback: bool = False
    # Whether clients read `/metrics` where they ask for answers.
    shows_metrics: bool = True

    async def admit(self, request: Request, body: bytes) -> bytes:
        """The body as an engine is to see it; `Refusal` where the rules let it not through."""
        exchange = exchange_of(request.scope)
        admitted = await self.guardrails.check_request(body, exchange)
        # Now: a request that is refused leaves no text in any record.
        if exchange.keeps_texts:
            exchange.request = admitted
        return admitted

    def around(
        self, request: Request, call: Call, lanes: Lanes, forward: Forward
    ) -> Response:
        """The answer to a request, with everything around it."""
        exchange = exchange_of(request.scope)
        exchange.model = call.model
        exchange.answer_form = call.answer_form
        response = forward(call, lanes)
        # Its texts are turns of a conversation.
        if self.fallback is not None and call.path == CHAT:
            response = self.fallback.around(response, call, lanes, forward)
        # Outermost: what stands in for a model, and what the cache kept, are looked at as well.
        return self.guardrails.around(response, exchange, call.body)


def open_additions(home: Path, source: Source) -> Additions:
    """What settings and rules ask for; `ServingError` where they do not fit."""
    settings = Settings()
    rules = EndpointRules()
    if settings.endpoint_rules:
        path = Path(settings.endpoint_rules)
        rules = read_rules(path)
        say(f"The endpoint follows the rules {path}")
    # Everything that may be wrong comes before the first thread.
    additions = Additions(
        guardrails=Guardrails(rules.guardrails),
        fallback=_open_fallback(rules, settings),
        takes_texts_of_feedback=rules.feedback is not None,
        shows_metrics=settings.metrics_address == "",
        observer=Observer(source),
    )
    _open_sinks(additions.observer, home, rules, settings)
    return additions


def _open_fallback(rules: EndpointRules, settings: Settings) -> Fallback | None:
    if rules.fallback is None:
        return None
    if "person" not in rules.fallback.steps:
        return Fallback(rules.fallback)
    handoff = Handoff(settings.handoff_url, rules.fallback.person_seconds)
    return Fallback(rules.fallback, handoff)


def _open_sinks(
    observer: Observer, home: Path, rules: EndpointRules, settings: Settings
) -> None:
    metrics = observer.metrics
    if settings.traces:
        observer.add(Traces(open_exporter(settings.traces), metrics))
    if rules.requests is not None:
        observer.add(RequestLog(home, rules.requests, metrics))
    if rules.feedback is not None:
        observer.add(FeedbackLog(home, rules.feedback, metrics))
