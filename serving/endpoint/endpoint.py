"""The endpoint's life: start, follow the ledger, answer, let answers finish, end."""

import asyncio
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI

from core.log import say
from core.ready import ready_line
from core.settings import Settings
from registry.release.following import EndpointState
from serving.endpoint.additions import open_additions
from serving.endpoint.admin import create_admin_app
from serving.endpoint.admin_address import (
    AdminAddress,
    publish_admin_address,
    withdraw_admin_address,
)
from serving.endpoint.fleet import Fleet
from serving.endpoint.follow import Follower
from serving.endpoint.front_page import add_front_page
from serving.endpoint.lanes import Target
from serving.endpoint.limits import Limits
from serving.endpoint.public_app import guard
from serving.endpoint.public_settings import PublicSettings
from serving.endpoint.readiness import Standing, describe_solitude
from serving.endpoint.registration import Registration, registration_of
from serving.endpoint.routes import create_app
from serving.garbage import leave_out_of_search
from serving.listen import create_server, format_url, is_local, open_socket
from serving.observing.figures import Figures, Source
from serving.observing.metrics_route import MetricsServer


class Endpoint:
    """Fleet and follower of one home."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self._home = home
        self._limits = limits
        self.fleet = Fleet(home, limits)
        self.follower = Follower(home, limits, self.fleet.match_ledger)
        # Here: a mistake in it ends the start, and no endpoint that answers.
        self._registration = registration_of(limits.seconds_ready_alone)
        # The methods themselves: they are asked anew each time that somebody reads the metrics.
        source = Source(
            self.figures,
            self.fleet.lanes.table_has,
        )
        self._additions = open_additions(home, source)
        metrics = self._additions.observer.metrics
        # Its port is opened now: a taken one ends the start, and no endpoint that answers.
        self._metrics_server = MetricsServer(
            metrics,
            Settings().metrics_address,
        )

    def state(self) -> EndpointState:
        """What it has followed, what it has loaded, what answers, and what is wrong."""
        ledger_state = self.follower.ledger_state
        head = None if ledger_state is None else ledger_state.head
        registration = self._registration
        return EndpointState(
            head=head,
            engines=self.fleet.engine_states(),
            routes=self.fleet.routes(),
            canaries=self.fleet.canaries(),
            alarms=self._alarms(),
            replica="" if registration is None else registration.name,
        )

    def standing(self) -> Standing:
        """For load balancers."""
        registration = self._registration
        seconds_alone = self.follower.seconds_alone
        hindrance = ""
        if registration is not None:
            seconds_alone = max(seconds_alone, registration.seconds_alone)
            # Two under one name: releases wait for the other one alone.
            hindrance = registration.alarm or "" if registration.is_taken else ""
        limit = self._limits.seconds_ready_alone
        return Standing(
            self.state().head,
            hindrance or describe_solitude(seconds_alone, limit),
        )

    def figures(self) -> Figures:
        """For metrics."""
        figures = self.fleet.figures()
        count = len(self._alarms())
        return replace(
            figures,
            alarms=count,
        )

    def _alarms(self) -> tuple[str, ...]:
        alarms = self.follower.alarms + self.fleet.alarms()
        if self._registration is None or self._registration.alarm is None:
            return alarms
        return (*alarms, self._registration.alarm)

    async def serve(self, listener: socket.socket) -> None:
        """Answer until SIGTERM or Ctrl-C; then take nothing new, and let running answers finish."""
        end_signal = _listen_for_end()
        # Before anything is loaded: a mistake in it is then said at once.
        settings = PublicSettings.read()
        # Before the first client: what is released is known then.
        await self.follower.look()
        with suppress(TimeoutError):
            # Clients that connect before this is over wait in the socket's queue, instead of
            # being answered that no engine is ready.
            adoption = self.fleet.wait_until_adopted()
            await asyncio.wait_for(adoption, self._limits.seconds_to_take_over)
        # On this machine alone, whoever the public port is open to.
        with open_socket("127.0.0.1", 0) as admin_listener:
            scheme = "http" if settings.tls is None else "https"
            serves_at = f"{format_url(listener, scheme)}/v1"
            admin_address = AdminAddress.new(format_url(admin_listener), serves_at)
            public = create_server(self._create_app(listener, settings), settings.tls)
            admin = create_server(
                create_admin_app(admin_address.token, self.follower.look, self.state)
            )
            # Before the first answer: nobody waits for one yet.
            leave_out_of_search()
            answering = asyncio.create_task(public.serve([listener]))
            background = [
                asyncio.create_task(self.follower.keep_following()),
                asyncio.create_task(self.fleet.keep_looking_at_packages()),
                asyncio.create_task(self.fleet.keep_spares()),
                asyncio.create_task(self.fleet.keep_taking_over()),
                asyncio.create_task(self._announce(admin_address)),
            ]
            if self._registration is not None:
                reporting = self._report(self._registration, serves_at)
                background.append(asyncio.create_task(reporting))
            listening = asyncio.create_task(admin.serve([admin_listener]))
            measuring = asyncio.create_task(self._metrics_server.serve())
            try:
                publish_admin_address(self._home, admin_address)
                await end_signal.wait()
                # The admin interface answers on: the controller may ask what still runs.
                public.should_exit = True
                await asyncio.wait({answering}, timeout=self._limits.seconds_to_finish)
            finally:
                await self._end(background)
                public.should_exit = True
                admin.should_exit = True
                self._metrics_server.end()
                await asyncio.wait({answering, listening, measuring})
                # In a thread: it waits a moment for the disk and for a collector of spans.
                await asyncio.to_thread(self._additions.observer.close)

    def _create_app(self, listener: socket.socket, settings: PublicSettings) -> FastAPI:
        app = create_app(
            self.fleet.lanes,
            self._limits,
            self._additions,
            settings.cache_bytes,
            self.standing,
        )
        # Here and not among the routes: a preview has no home, and so no page.
        add_front_page(app, self._home)
        count_refused = self._additions.observer.metrics.refuse
        # Last, since it stands around every route.
        guard(app, self._home, settings, count_refused, is_local=is_local(listener))
        return app

    async def _end(self, background: list[asyncio.Task[None]]) -> None:
        """An answer that still runs now ends in an error event."""
        # First: whoever calls from now on should hear that no endpoint runs.
        withdraw_admin_address(self._home)
        for task in background:
            task.cancel()
        if self._registration is not None:
            await self._registration.leave()
        await self.fleet.close()

    async def _report(self, registration: Registration, serves_at: str) -> None:
        """Have releases see this replica, once it can be asked: none waits for one that starts."""
        await self.fleet.wait_until_settled()
        await registration.keep(
            serves_at,
            self.state,
            self.follower.look,
        )

    async def _announce(self, admin_address: AdminAddress) -> None:
        """Say that it is ready, once every release with traffic answers or has failed."""
        await self.fleet.wait_until_settled()
        line = ready_line(self._describe_answers(), admin_address.serves_at)
        say(line, sys.stdout)

    def _describe_answers(self) -> str:
        targets = self.fleet.lanes.ready_targets()
        answers = []
        for name, route in self.fleet.routes().items():
            version = _describe_version(targets[name])
            answers.append(f"{name} {version} ({route.fingerprint})")
        if answers:
            return " and ".join(answers)
        if self.fleet.lanes.table:
            return "nothing of what is released answers yet (`assay status` says why)"
        return "nothing is released yet (`assay promote` releases a version)"


def _describe_version(target: Target) -> str:
    if target.serves_base:
        return "by its base"
    return f"version {target.label}"


def _listen_for_end() -> asyncio.Event:
    """An event that SIGTERM and Ctrl-C set."""
    end_signal = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # ValueError: this is not the main thread, as in a test, where no signal arrives.
        with suppress(ValueError):
            loop.add_signal_handler(number, end_signal.set)
    return end_signal
