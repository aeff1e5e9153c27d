"""A server that a team shares: one bounded question over HTTP, and what is wrong with its answer.

Nothing here trusts what answers: a page to log in, a proxy or a program of another kind may.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from socket import gaierror
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urljoin

from core.address import shown
from core.errors import OperationError, first_line
from core.value import Value

SECONDS_TO_EXAMINE = 4.5
"""What an examination of one server may take, whatever the server does."""
_MOST_BYTES = 200_000
_T = TypeVar("_T")


class Finding(Value):
    """What an examination found, as one sentence."""

    name: str
    is_ok: bool
    text: str


class Answer(NamedTuple):
    """An answer in HTTP, whatever its status."""

    status: int
    kind: str
    """Its Content-Type without parameters; empty where it has none."""
    body: bytes
    location: str
    """Where a redirect leads; empty where it is none."""

    def json(self) -> Any:
        """The body as JSON; None where it is not JSON."""
        with suppress(ValueError, RecursionError):
            return json.loads(self.body)
        return None


@dataclass(frozen=True)
class TeamServer:
    """Where a server is, how it is asked, and what its settings are called."""

    name: str
    setting: str
    """The variable that holds its address."""
    address: str
    """Without a login."""
    login_settings: str
    """How a login is given: the object of "Set"."""
    authority_setting: str
    """The variable that names the file of a certificate's authority."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    """Whether its certificate is verified, or the file of the authority that signed it."""
    seconds: float = SECONDS_TO_EXAMINE
    """How long an answer is waited for."""
    own_certificate: str | None = None
    """The file of the certificate by which this machine shows who it is."""

    @property
    def place(self) -> str:
        """What a message calls it."""
        where = shown(self.address)
        return f"{self.name} at {where}"

    @property
    def has_login(self) -> bool:
        """Whether it is asked with a login."""
        return "Authorization" in self.headers

    def ask(self, path: str, body: Any = None) -> Answer:
        """Send a GET, or a POST of a JSON `body`; `OperationError` where nothing answers in HTTP.

        A redirect is not followed.
        """
        import requests
        from urllib3 import disable_warnings
        from urllib3.exceptions import InsecureRequestWarning

        # The person has switched the verification off, and knows.
        if self.verify is False:
            disable_warnings(InsecureRequestWarning)
        url = f"{self.address.rstrip('/')}{path}"
        try:
            with requests.request(
                "GET" if body is None else "POST",
                url,
                json=body,
                headers=self.headers,
                verify=self.verify,
                cert=self.own_certificate,
                timeout=self.seconds,
                # The login would be sent along to wherever it leads.
                allow_redirects=False,
                stream=True,
            ) as answer:
                # What answers without an end must not fill the memory.
                content = answer.raw.read(_MOST_BYTES, decode_content=True)
                location = answer.headers.get("Location", "")
                kind = answer.headers.get("Content-Type", "").partition(";")[0]
                return Answer(answer.status_code, kind.strip(), content, location)
        # A malformed address or header is a ValueError; urllib3 has errors of its own.
        except Exception as error:
            raise self._unreachable(error) from error

    def refuse(self, answer: Answer) -> None:
        """`OperationError` for an answer that is a refusal whatever was asked."""
        sentence = self._describe_refusal(answer)
        if sentence is not None:
            raise OperationError(sentence)

    def _describe_refusal(self, answer: Answer) -> str | None:
        if 300 <= answer.status < 400:
            there = urljoin(self.address, answer.location)
            return (
                f"{self.place} leads to {shown(there)} ({answer.status}), perhaps a page to "
                f"log in. Set {self.setting} to an address that programs may ask."
            )
        # Two ways out: another login, or any login at all.
        if answer.status == 401:
            fact = "does not know this login" if self.has_login else "wants a login"
            return f"{self.place} {fact} (401). Set {self.login_settings}."
        if answer.status == 403:
            return (
                f"{self.place} does not allow this account what Assay needs (403). "
                "Ask its admin for the right, or use another account."
            )
        if answer.status >= 500:
            return f"{self.place} fails ({answer.status}). Look at its log."
        return None

    def is_another(self, answer: Answer) -> OperationError:
        """The error for an answer that such a server would not give."""
        kind = answer.kind or "no Content-Type"
        if kind == "text/html":
            kind = "a page, perhaps one to log in"
        where = shown(self.address)
        return OperationError(
            f"What answers at {where} is not {self.name} "
            f"({answer.status}, {kind}). Correct {self.setting}."
        )

    def _unreachable(self, error: Exception) -> OperationError:
        causes = tuple(_causes(error))
        # requests wraps what the system said several times over.
        for kind, describe in _FAULTS:
            for cause in causes:
                if isinstance(cause, kind):
                    return OperationError(describe(self, cause))
        return OperationError(
            f"{self.place} does not answer in HTTP ({type(error).__name__}). "
            f"Correct {self.setting}: perhaps https:// is meant."
        )


def _describe_tls(server: TeamServer, cause: BaseException) -> str:
    # Only an error of verification has one; others come from a server without TLS.
    reason = getattr(cause, "verify_message", "")
    if reason:
        return (
            f"{server.place} has a certificate that this machine does not accept ({reason}). "
            f"Name the file of its authority in {server.authority_setting}."
        )
    return (
        f"{server.place} does not speak TLS as it should "
        f"({getattr(cause, 'reason', None) or first_line(cause)}). "
        f"Write http:// into {server.setting} if it has no TLS."
    )


def _describe_unknown_host(server: TeamServer, _: BaseException) -> str:
    return (
        f"The host of {server.place} is unknown. "
        f"Correct {server.setting}, or look at this machine's DNS."
    )


def _describe_refused(server: TeamServer, _: BaseException) -> str:
    return f"{server.place} takes no connection. Start it, or correct {server.setting}."


def _describe_silence(server: TeamServer, _: BaseException) -> str:
    return silence(server.place, server.seconds)


# The first that fits counts; a certificate's fault is an OSError, too.
_FAULTS: tuple[
    tuple[type[BaseException], Callable[[TeamServer, BaseException], str]], ...
] = (
    (ssl.SSLError, _describe_tls),
    (gaierror, _describe_unknown_host),
    (ConnectionRefusedError, _describe_refused),
    (TimeoutError, _describe_silence),
)


def silence(place: str, seconds: float) -> str:
    """The sentence for a server that says nothing."""
    return (
        f"{place} did not answer within {seconds:g} s. "
        "Look whether it hangs, and whether a firewall is between."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from."""
    # An error that was raised from itself would have no end.
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def within(seconds: float, place: str, call: Callable[[], _T]) -> _T:
    """The call's result; `OperationError` where it takes longer, and the call is left behind.

    Timeouts of libraries count from one byte to the next, so a server that drips could go on.
    """
    results: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def carry_out() -> None:
        try:
            results.put((True, call()))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            results.put((False, error))

    # A daemon: the program must not wait for it at its end.
    threading.Thread(target=carry_out, daemon=True).start()
    try:
        is_done, result = results.get(timeout=seconds)
    except Empty:
        raise OperationError(silence(place, seconds)) from None
    if not is_done:
        raise result
    return result  # type: ignore[no-any-return]
