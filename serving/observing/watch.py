"""The outermost part of the endpoint's app: sees every request begin and end, and changes none."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.observing.exchange import KEY
from serving.observing.observer import Observer


class WatchedApp:
    """An app whose requests an observer sees; what it sends passes unchanged."""

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and have it counted however it ends."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = self._observer.begin(scope)
        scope[KEY] = exchange

        async def send_seen(message: Message) -> None:
            exchange.take(message)
            await send(message)

        try:
            await self._app(scope, receive, send_seen)
        except Exception:
            # Answered with 500 further out.
            exchange.fail()
            raise
        # Also of a request whose task is cancelled, or it would be counted as running for ever.
        finally:
            self._observer.end(exchange)
