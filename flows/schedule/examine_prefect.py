"""Whether the Prefect at `PREFECT_API_URL` can take runs, asked within seconds and read-only."""

import os
import re

from core.environment import prefect_address
from core.errors import OperationError
from core.team_server import SECONDS_TO_EXAMINE, Answer, TeamServer, within
from flows.schedule.prefect_login import authorization

OLDEST = (3, 8)
"""A server may be newer than its clients, and not older: this is the version of the lock."""
_VERSION = re.compile(r"(\d+)\.(\d+)[\w.+-]*")


def examine_prefect(seconds: float = SECONDS_TO_EXAMINE) -> str | None:
    """One sentence on the configured Prefect; None where none is configured.

    `OperationError` where it cannot be used.
    """
    address = prefect_address()
    if address is None:
        return None
    server = prefect_server(address, seconds)
    # Several questions, and one limit for all of them.
    place = server.place
    return within(seconds, place, lambda: _examine(server))


def prefect_server(address: str, seconds: float) -> TeamServer:
    """The server as Prefect's client would ask it: login and certificates of its own settings."""
    is_unverified = os.environ.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower()
    authority = os.environ.get("PREFECT_API_SSL_CERT_FILE") or os.environ.get(
        "SSL_CERT_FILE"
    )
    return TeamServer(
        name="Prefect",
        setting="PREFECT_API_URL",
        address=address,
        login_settings="PREFECT_API_AUTH_STRING to USER:PASSWORD, or PREFECT_API_KEY",
        authority_setting="PREFECT_API_SSL_CERT_FILE",
        headers=authorization(),
        seconds=seconds,
        verify=is_unverified not in {"true", "1"} and (authority or True),
    )


def _examine(server: TeamServer) -> str:
    # Not `/health`, which answers without a login.
    answer = server.ask("/flows/filter", {"limit": 1})
    server.refuse(answer)
    # A gateway may answer 200 with a page of its own.
    document = answer.json()
    is_list = isinstance(document, list)
    if answer.status != 200 or not is_list:
        _check_path(server)
        raise server.is_another(answer)
    version = _read_version(server.ask("/admin/version"))
    # Prefect Cloud does not say its version, and is as new as can be.
    if version is None:
        return f"{server.place}, which does not say its version"
    _check_version(server, version)
    return f"{server.place}, version {version}"


def _check_version(server: TeamServer, version: str) -> None:
    major, minor = OLDEST
    # A version that cannot be read is no version that is known to do.
    found = (0, 0)
    match = _VERSION.fullmatch(version)
    if match is not None:
        found = (int(match[1]), int(match[2]))
    # The next major version may have another API.
    is_new_enough = found >= OLDEST
    is_same_major = found[0] == major
    if is_new_enough and is_same_major:
        return
    raise OperationError(
        f"{server.place} is version {version}, and Assay needs Prefect "
        f"{major}.{minor} or a later {major}. "
        "Install that one there."
    )


def _check_path(server: TeamServer) -> None:
    """The address of the pages instead of the API is the usual slip."""
    answer = server.ask("/api/health")
    # Exactly true, as Prefect says it: a page that answers everything says something else.
    is_well = answer.json() is True
    is_found = answer.status == 200
    if is_found and is_well:
        base = server.address.rstrip("/")
        right = f"{base}/api"
        raise OperationError(
            f"{server.place} has its API one level lower. Set PREFECT_API_URL to {right}."
        )


def _read_version(answer: Answer) -> str | None:
    document = answer.json()
    is_said = answer.status == 200 and isinstance(document, str)
    return document if is_said else None
