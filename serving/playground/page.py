"""The widgets of the page, by nicegui.

Whatever a model or the endpoint says is put into labels, whose text a browser never reads as HTML.
"""

import asyncio
import uuid
from collections.abc import Callable
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


def create_page_app(endpoint: str, *, needs_key: bool) -> FastAPI:
    """The app of the page. With `needs_key` it asks nobody's questions without an API key."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    api = EndpointApi(endpoint)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @ui.page("/", title="Assay playground", dark=None)
    async def playground() -> None:
        client = ui.context.client
        page = Page(api, client.ip, needs_key=needs_key)
        await page.draw()
        client.on_delete(page.stop)

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
        is_new = self._first.value not in names
        self._first.set_options(names, value=first if is_new else self._first.value)
        is_kept = self._second.value in names
        kept = self._second.value if is_kept else None
        self._second.set_options(names, value=second if is_new else kept)

    async def _ask_for_models(self) -> Any:
        if self._needs_key and not self._visitor.key:
            raise KeyNeeded("Give your API key.")
        return await self._api.models(self._visitor)

    async def _take_key(self) -> None:
        address = self._visitor.address
        key = self._key.value or ""
        self._visitor = Visitor(address, key)

    async def _ask(self) -> None:
        """Ask every model that is chosen, all at once."""
        question = (self._question.value or "")[:MOST_CHARACTERS].strip()
        names = [name for name in (self._first.value, self._second.value) if name]
        if not question or not names or self._asking:
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
            card.update()

    async def _rate(self, answer: Answer, score: int) -> str:
        """Rate it; what came of that, for people."""
        try:
            await self._api.rate(answer, score, self._visitor)
        except ServingError as error:
            return str(error)
        return "Rated as good." if score > 0 else "Rated as bad."

    async def _begin(self) -> None:
        """Begin a new conversation: nothing of this one is asked again."""
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


class ShownExchange:
    """One question, and a card for each answer to it."""

    def __init__(self, exchange: Exchange, rate: Callable[[Answer, int], Any]) -> None:
        with ui.column().classes("w-full gap-2"):
            question = ui.label(exchange.question)
            question.classes(f"{_TEXT} font-medium")
            answers = exchange.answers
            grid = ui.grid(columns=len(answers))
            with grid.classes("w-full gap-4"):
                self.cards = [AnswerCard(answer, rate) for answer in answers]


class AnswerCard:
    """One answer, who gave it, and how good it was."""

    def __init__(self, answer: Answer, rate: Callable[[Answer, int], Any]) -> None:
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
        # At once: an answer is rated once.
        self._is_rated = True
        self.update()
        self._rated.set_text(await self._rate(self._answer, score))


def _describe_source(answer: Answer) -> str:
    """Which version answers, and its fingerprint."""
    if not answer.release:
        return ""
    what = "the base" if answer.release == "base" else f"version {answer.release}"
    return f"{what} · {answer.fingerprint}"
