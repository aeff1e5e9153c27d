"""The endpoint of a home, as release, controller and command line call it."""

from pathlib import Path
from typing import Literal

import httpx
from pydantic import ValidationError

from core.errors import DamagedFile, ServingError
from registry.release.following import ALL, EndpointState
from serving.endpoint.admin_address import AdminAddress, admin_address_file

_TIMEOUT = httpx.Timeout(10.0, connect=1.0)


class EndpointClient:
    """A `FollowingEndpoint` over HTTP.

    Its address is read at every call, since a restarted endpoint has another one.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            # Loopback: a proxy that the environment names has no business with it.
            trust_env=False,
            # No connection is kept: at the next call the endpoint may be another process.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def ring(self, quorum: int = ALL) -> EndpointState:
        """Have it read the ledger now; give its state after that. `ServingError` as in `state`."""
        return self._ask("POST", "/doorbell")

    def state(self) -> EndpointState:
        """Its state; `ServingError` where no endpoint runs or answers."""
        return self._ask("GET", "/state")

    def admin_address(self) -> AdminAddress:
        """Where it is called: `ServingError` where none runs."""
        path = admin_address_file(self._home)
        try:
            return AdminAddress.read(path)
        except DamagedFile as error:
            raise self._absent_error() from error

    def _ask(self, method: Literal["GET", "POST"], path: str) -> EndpointState:
        address = self.admin_address()
        try:
            reply = self._http.request(
                method,
                address.url + path,
                headers={"authorization": f"Bearer {address.token}"},
            )
        # The file outlives an endpoint that was killed: nothing listens there then.
        except httpx.ConnectError as error:
            raise self._absent_error() from error
        except httpx.HTTPError as error:
            raise ServingError(
                f"The endpoint of {self._home} does not answer ({type(error).__name__}). "
                "Look at its log."
            ) from error
        try:
            return EndpointState.model_validate_json(reply.content)
        except ValidationError as error:
            raise ServingError(
                f"What answers at {address.url} is not this home's endpoint "
                f"({reply.status_code}). Start it again."
            ) from error

    def _absent_error(self) -> ServingError:
        return ServingError(
            f"No endpoint of {self._home} runs. "
            "Start it with `assay up`, or alone with `assay serve`."
        )


def endpoint_client(home: Path) -> EndpointClient:
    """The endpoint of that home, running or not."""
    return EndpointClient(home)
