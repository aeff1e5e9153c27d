"""The widgets of the page, by nicegui.

Whatever a model or the endpoint says is put into labels, whose text a browser never reads as HTML.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import FastAPI
from nicegui import ui

from core.errors import ServingError
from serving.playground.api import Answer, EndpointApi, KeyNeeded, Visitor
from serving.playground.conversation import (
    MOST_CHARACTERS,
    Conversation,
    Exchange,
    first_choice,
)

_TEXT = "whitespace-pre-wrap break-words w-full"
# Longer than an endpoint is waited for that does not say what it serves: the page then says so.
_SECONDS_TO_DRAW = 15.0


def create_page_app(endpoint: str, *, needs_key: bool) -> FastAPI:
    """The app of the page. With `needs_key` it asks nobody's questions without an API key."""
    # No documents: this is no interface for programs, which ask the endpoint itself.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    # One for all visitors, whose keys travel with each request and stay in no connection.
    api = EndpointApi(endpoint)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @ui.page(
        "/", title="Assay playground", dark=None, response_timeout=_SECONDS_TO_DRAW
    )
    async def playground() -> None:
        client = ui.context.client
        page = Page(api, client.ip, needs_key=needs_key)
        # First: a visitor may leave while the page is drawn.
        client.on_delete(page.stop)
        await page.draw()

    ui.run_with(app, title="Assay playground", show_welcome_message=False)
    return app


class Page:
    """One visitor's page: what is asked, of whom, and what was answered."""

    def __init__(self, api: EndpointApi, address: str, *, needs_key: bool) -> None:
        self._api = api
        self._visitor = Visitor(address)
        self._needs_key = needs_key
        self._conversation = Conversation()
        self._new_user()
        self._asking: list[asyncio.Task[None]] = []

    async def draw(self) -> None:
        """Everything that is on the page before the first question."""
        ui.colors(primary="#37474f")
        with ui.header().classes("items-center"):
            ui.label("Assay playground").classes("text-lg")
            ui.space()
            ui.button("New conversation", icon="refresh", on_click=self._begin).props(
                "flat color=white"
            )
        with ui.column().classes("w-full max-w-6xl mx-auto gap-4"):
            self._draw_choice()
            self._notice = ui.label().classes("text-negative").props('role="alert"')
            self._exchanges = ui.column().classes("w-full gap-4")
        with ui.footer().classes("bg-transparent"):
            self._draw_question()
        await self._look_for_models()

    async def stop(self) -> None:
        """End the answers that still arrive."""
        # The endpoint's client leaves with its task, and the engine stops.
        for task in self._asking:
            task.cancel()

    def _draw_choice(self) -> None:
        with ui.row().classes("w-full items-center gap-4"):
            self._first = ui.select([], label="Model").classes("grow")
            self._second = ui.select([], label="Beside it", clearable=True)
            self._second.classes("grow")
            self._key = ui.input(
                "API key", password=True, on_change=self._take_key
            ).classes("grow")
            self._key.set_visibility(self._needs_key)
            ui.button(icon="sync", on_click=self._look_for_models).props(
                'flat aria-label="Look for models again"'
            )

    def _draw_question(self) -> None:
        place = ui.card().classes("w-full max-w-6xl mx-auto")
        row = "w-full items-end no-wrap"
        with place, ui.row().classes(row):
            self._question = ui.textarea("Question")
            self._question.classes("grow")
            self._question.props(f"autogrow maxlength={MOST_CHARACTERS}")
            self._question.on("keydown.ctrl.enter", self._ask)
            self._send = ui.button("Send", icon="send", on_click=self._ask)
            self._stop = ui.button("Stop", icon="stop", on_click=self.stop)
            self._stop.set_visibility(False)

    async def _look_for_models(self) -> None:
        """Ask what answers, and choose who is asked where nobody has been chosen."""
        try:
            models = await self._ask_for_models()
        except KeyNeeded as error:
            self._key.set_visibility(True)
            self._say(str(error))
            return
        except ServingError as error:
            self._say(str(error))
            return
        self._say("" if models else "Nothing answers yet: release a version first.")
        names = [model.name for model in models]
        first, second = first_choice(models)
        # What a visitor chose stays chosen for as long as it answers.
        is_new = self._first.value not in names
        self._first.set_options(names, value=first if is_new else self._first.value)
        is_kept = self._second.value in names
        kept = self._second.value if is_kept else None
        self._second.set_options(names, value=second if is_new else kept)

    async def _ask_for_models(self) -> Any:
        # Nobody's question is asked on the page's own account.
        if self._needs_key and not self._visitor.key:
            raise KeyNeeded("Give your API key.")
        return await self._api.models(self._visitor)

    async def _take_key(self) -> None:
        # The old one may still be asking, with the key that it had.
        address = self._visitor.address
        key = self._key.value or ""
        self._visitor = Visitor(
            address,
            key,
        )

    async def _ask(self) -> None:
        """Ask every model that is chosen, all at once."""
        # The browser keeps to the length; what is no browser need not.
        text = (self._question.value or "")[:MOST_CHARACTERS]
        question = text.strip()
        chosen = (self._first.value, self._second.value)
        names = [name for name in chosen if name]
        # Ctrl and Enter still work where the button is greyed out.
        if not question or self._asking:
            return
        if not names:
            self._say("Choose a model: nothing is asked yet.")
            return
        if self._needs_key and not self._visitor.key:
            self._say("Give your API key.")
            return
        if self._conversation.is_full:
            self._say("This conversation is long enough. Begin a new one.")
            return
        self._say("")
        self._question.set_value("")
        exchange = self._conversation.ask(question, names)
        with self._exchanges:
            shown = ShownExchange(exchange, self._rate)
        await self._gather(exchange, shown)

    async def _gather(self, exchange: Exchange, shown: "ShownExchange") -> None:
        # A task a side: a slow one does not hold up the other, and each can be stopped.
        sides = range(len(exchange.answers))
        self._asking = [
            asyncio.create_task(self._fill(side, exchange, shown)) for side in sides
        ]
        self._send.disable()
        self._stop.set_visibility(True)
        try:
            await asyncio.wait(self._asking)
        finally:
            self._asking = []
            self._stop.set_visibility(False)
            self._send.enable()

    async def _fill(
        self, side: int, exchange: Exchange, shown: "ShownExchange"
    ) -> None:
        answer = exchange.answers[side]
        messages = self._conversation.messages(side)
        card = shown.cards[side]
        try:
            async for _ in self._api.fill(answer, messages, self._visitor, self._user):
                card.update()
        except asyncio.CancelledError:
            answer.error = "Stopped."
            raise
        finally:
            # Also what went wrong is on the card.
            card.update()

    async def _rate(self, answer: Answer, score: int) -> None:
        # With the key of now: an answer is rated by whoever sits there.
        await self._api.rate(answer, score, self._visitor)

    async def _begin(self) -> None:
        """Begin a new conversation: nothing of this one is asked again."""
        # A new value: what still arrives is written into the old one.
        await self.stop()
        self._conversation = Conversation()
        self._new_user()
        self._exchanges.clear()
        self._say("")

    def _new_user(self) -> None:
        # A random one for each conversation: it names nobody.
        number = uuid.uuid4()
        self._user = f"playground-{number.hex}"

    def _say(self, sentence: str) -> None:
        self._notice.set_text(sentence)


Rate = Callable[[Answer, int], Awaitable[None]]
"""Rates an answer as good (1) or bad (-1); `ServingError` where that is not taken."""


class ShownExchange:
    """One question, and a card for each answer to it."""

    def __init__(self, exchange: Exchange, rate: Rate) -> None:
        with ui.column().classes("w-full gap-2"):
            question = ui.label(exchange.question)
            question.classes(f"{_TEXT} font-medium")
            answers = exchange.answers
            grid = ui.grid(columns=len(answers))
            with grid.classes("w-full gap-4"):
                self.cards = [AnswerCard(answer, rate) for answer in answers]


class AnswerCard:
    """One answer, who gave it, and how good it was."""

    def __init__(self, answer: Answer, rate: Rate) -> None:
        # The same value that the answer's task fills: `update` shows what it is by then.
        self._answer = answer
        self._rate = rate
        self._is_rated = False
        with ui.card().classes("w-full"):
            ui.label(answer.model).classes("font-medium")
            self._source = ui.label().classes("text-xs opacity-70")
            self._text = ui.label().classes(_TEXT).props('aria-live="polite"')
            self._error = ui.label().classes(f"{_TEXT} text-negative")
            with ui.row().classes("items-center") as self._rating:
                self._thumb("thumb_up", "Good answer", 1)
                self._thumb("thumb_down", "Bad answer", -1)
            self._rated = ui.label().classes("text-xs opacity-70")
        self.update()

    def update(self) -> None:
        """Show the answer as it is now."""
        answer = self._answer
        self._source.set_text(_describe_source(answer))
        self._text.set_text(answer.text)
        self._error.set_text(answer.error)
        can_be_rated = answer.can_be_rated and not self._is_rated
        self._rating.set_visibility(can_be_rated)

    def _thumb(self, icon: str, name: str, score: int) -> None:
        give = partial(self._give, score)
        button = ui.button(icon=icon, on_click=give)
        button.props(f'flat round dense aria-label="{name}"')

    async def _give(self, score: int) -> None:
        # At once, so that a second click finds no button: an answer is rated once.
        self._is_rated = True
        self.update()
        try:
            await self._rate(self._answer, score)
        except ServingError as error:
            # A rating that was lost may be given again.
            self._is_rated = False
            self.update()
            self._rated.set_text(str(error))
            return
        self._rated.set_text("Rated as good." if score > 0 else "Rated as bad.")


def _describe_source(answer: Answer) -> str:
    """Which version answers, and its fingerprint."""
    # Not before the headers are there, and never of a server that is not Assay's.
    if not answer.release:
        return ""
    if not answer.is_of_model:
        return "a fixed text, since no model answered"
    what = "the base" if answer.release == "base" else f"version {answer.release}"
    return f"{what} · {answer.fingerprint}"
