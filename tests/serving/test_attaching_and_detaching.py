"""A release that is taken back while its process still loads it, and one that comes back."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import pytest

from pipelines.engines.refusal import Refusal
from pipelines.engines.shared.engine import ReleaseEngine
from registry.release.package_signature import digest_of_package
from serving.load_shared import ReleaseOrder, SharedBase, SharedConfig, load_shared
from serving.shared_app import SharedReleases
from tests.support.running_engine import Served
from tests.support.shared_process import order
from tests.support.waiting import SECONDS_AT_MOST

pytestmark = pytest.mark.ci


@dataclass(frozen=True)
class SlowBase(SharedBase):
    """A base that begins to load a release once a test lets it."""

    is_asked: threading.Event = field(default_factory=threading.Event)
    may_load: threading.Event = field(default_factory=threading.Event)

    def attach(self, order: ReleaseOrder) -> ReleaseEngine:
        self.is_asked.set()
        assert self.may_load.wait(SECONDS_AT_MOST)
        return super().attach(order)


@dataclass(frozen=True)
class Site:
    """A process's releases, and one that may come."""

    base: SlowBase
    releases: SharedReleases
    sha: str
    body: bytes

    def attach(self) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.releases.attach(self.sha, self.body))

    def detach(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.releases.detach(self.sha))

    async def wait_until_loading(self) -> None:
        assert await asyncio.to_thread(self.base.is_asked.wait, SECONDS_AT_MOST)


@pytest.fixture(scope="module")
def loaded(served: Served) -> Iterator[SharedBase]:
    config = SharedConfig(served.base_folder, served.base_manifest, served.package)
    made = load_shared(config)
    yield made
    made.close()


@pytest.fixture
def site(loaded: SharedBase, served: Served) -> Site:
    parts = {each.name: getattr(loaded, each.name) for each in fields(SharedBase)}
    base = SlowBase(**parts)
    sha = digest_of_package(served.package)
    body = json.dumps(order(served.package, "tuned")).encode()
    return Site(base, SharedReleases(base), sha, body)


def run(case: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(SECONDS_AT_MOST):
            await case()

    asyncio.run(limited())


def test_what_is_taken_back_while_it_is_loaded_is_not_there_later(site: Site) -> None:
    async def case() -> None:
        coming = site.attach()
        await site.wait_until_loading()
        going = site.detach()
        await asyncio.sleep(0)
        site.base.may_load.set()
        await asyncio.gather(coming, going)
        with pytest.raises(Refusal, match="not in this process"):
            await site.releases.detach(site.sha)
        assert site.base.engine.stack.spans == {}

    run(case)


def test_what_comes_back_while_it_still_leaves_is_loaded_again(site: Site) -> None:
    async def case() -> None:
        site.base.may_load.set()
        await site.attach()
        going = site.detach()
        await asyncio.sleep(0)
        coming = site.attach()
        await asyncio.gather(going, coming)
        assert len(site.base.engine.stack.spans) == 1
        await site.detach()

    run(case)


def test_of_two_orders_at_once_one_is_followed(site: Site) -> None:
    async def case() -> None:
        both = [site.attach(), site.attach()]
        await site.wait_until_loading()
        site.base.may_load.set()
        _, second = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(second, Refusal)
        assert second.status == 409
        assert len(site.base.engine.stack.spans) == 1
        await site.detach()

    run(case)


def test_releases_that_are_loaded_take_no_thread_from_requests(site: Site) -> None:
    async def case() -> None:
        # More than asyncio has threads on any machine.
        shas = [f"{number:064x}" for number in range(33)]
        coming = [
            asyncio.create_task(site.releases.attach(sha, site.body)) for sha in shas
        ]
        await site.wait_until_loading()
        assert await asyncio.to_thread(site.base.may_load.is_set) is False
        for each in coming[1:]:
            each.cancel()
        site.base.may_load.set()
        first, *_ = await asyncio.gather(*coming, return_exceptions=True)
        assert isinstance(first, Refusal)
        assert "is not package" in str(first)

    run(case)
