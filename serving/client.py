"""The endpoint of a home, as release, controller and command line reach it."""

from pathlib import Path
from typing import Literal

import httpx
from pydantic import ValidationError

from core.errors import DamagedFile, ServingError
from registry.release.following import EndpointState
from serving.endpoint.admin_address import AdminAddress, admin_address_file

_TIMEOUT = httpx.Timeout(10.0, connect=1.0)


class EndpointClient:
    """A `FollowingEndpoint` over HTTP. It is looked up at every call, since a restarted endpoint has another door."""

    def __init__(self, home: Path) -> None:
        self._home = home
        # Loopback: a proxy that the environment names has no business here. No connection is kept: the endpoint may be another one by then.
        self._http = httpx.Client(
            timeout=_TIMEOUT,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def ring(self) -> EndpointState:
        """Have it read the ledger now, and say how it stands after that."""
        return self._ask("POST", "/doorbell")

    def state(self) -> EndpointState:
        """How it stands."""
        return self._ask("GET", "/state")

    def admin_address(self) -> AdminAddress:
        """Where it is: `ServingError` where none runs."""
        path = admin_address_file(self._home)
        try:
            return AdminAddress.read(path)
        except DamagedFile as error:
            raise self._absent() from error

    def _ask(self, method: Literal["GET", "POST"], path: str) -> EndpointState:
        admin_address = self.admin_address()
        try:
            reply = self._http.request(
                method,
                admin_address.url + path,
                headers={"authorization": f"Bearer {admin_address.token}"},
            )
        except httpx.ConnectError as error:
            raise self._absent() from error
        except httpx.HTTPError as error:
            raise ServingError(
                f"The endpoint of {self._home} does not answer ({type(error).__name__}). Look at its log."
            ) from error
        try:
            return EndpointState.model_validate_json(reply.content)
        except ValidationError as error:
            raise ServingError(
                f"What answers at {admin_address.url} is not this home's endpoint ({reply.status_code}). Start it again."
            ) from error

    def _absent(self) -> ServingError:
        return ServingError(
            f"No endpoint of {self._home} runs. Start it with `assay up`, or alone with `assay serve`."
        )


def endpoint_client(home: Path) -> EndpointClient:
    """The endpoint of that home, running or not."""
    return EndpointClient(home)
