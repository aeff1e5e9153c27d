"""Where MLflow says that files are, and whether its client may go there.

Whoever makes an experiment writes the address of its files, and MLflow's client shows its login to
every host that such an address names: the service account's, which may change everything.
"""

import re
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from core.address import shown
from core.errors import RegistryError, TransferRefused

_BY_SERVER = "mlflow-artifacts"
_PORTS = {"http": 80, "https": 443}
_OVER_HTTP = frozenset(_PORTS)
_PLAIN_HOST = re.compile(
    r"[A-Za-z0-9.\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?"
)
# MLflow looks these up once more, and then goes wherever it is told.
_REFERENCES = frozenset({"runs", "models"})


def check_place(location: str, uri: str) -> None:
    """Return only if a client of the MLflow at `uri` shows its login to nobody else there.

    `RegistryError` otherwise, before anything is asked.
    """
    place = urlsplit(location)
    # A reference is followed by the client, to where nobody looked.
    leads_on = place.scheme in _REFERENCES
    is_asked = _is_asked_by_http(place)
    if leads_on or (is_asked and not _is_server_itself(place, uri)):
        beginning = shown(location)[:200]
        raise RegistryError(
            f"MLflow says that files are at {beginning}, which is not its own server: "
            "its login is not shown there. Find out who made that experiment, and delete it."
        )


def check_own_place(location: str, uri: str, own: str) -> None:
    """Return only if the MLflow at `uri` keeps the files where it chooses to.

    `own`: where those of Assay's own experiment are. `TransferRefused` otherwise: whoever chose
    the place could have this machine read its own files, or ask any other one.
    """
    place, beside = urlsplit(location), urlsplit(own)
    if _is_asked_by_http(place):
        is_own = _is_server_itself(place, uri)
    else:
        is_same_root = (place.scheme, place.netloc) == (beside.scheme, beside.netloc)
        is_own = is_same_root and _is_below(place.path, beside.path)
    if not is_own:
        raise TransferRefused(
            f"Its files are at {shown(location)[:200]}, where this MLflow keeps none by itself. "
            "Delete its experiment, and send it again: MLflow chooses the place."
        )


def _is_asked_by_http(place: SplitResult) -> bool:
    return place.scheme == _BY_SERVER or place.scheme in _OVER_HTTP


def _is_server_itself(place: SplitResult, uri: str) -> bool:
    if place.scheme == _BY_SERVER and not place.netloc:
        return True
    server = urlsplit(uri)
    # The scheme of the server's address is used for both.
    is_same_scheme = place.scheme in {_BY_SERVER, server.scheme}
    is_http = server.scheme in _OVER_HTTP
    # Libraries differ in which host they read out of anything else.
    is_plain = _PLAIN_HOST.fullmatch(place.netloc) is not None
    if not (is_http and is_same_scheme and is_plain):
        return False
    return _host(place, server.scheme) == _host(server, server.scheme)


def _host(place: SplitResult, scheme: str) -> tuple[str | None, int]:
    port = place.port or _PORTS[scheme]
    return place.hostname, port


def _is_below(path: str, own: str) -> bool:
    """Whether it is in the folder that holds those of every experiment."""
    # As MLflow reads the address of a file.
    below, beside = PurePosixPath(unquote(path)), PurePosixPath(unquote(own))
    return ".." not in below.parts and beside.parent in below.parents
