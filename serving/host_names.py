"""Under which names a server answers.

A page in somebody's browser reaches servers of that machine under a name of its own that it lets
point there (DNS rebinding). The browser then sends that name as `Host`, which is how it shows.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from core.errors import ServingError
from core.settings import Settings
from serving.refusal import Refusal

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:@/]+)(:[0-9]{0,5})?")
_Address = IPv4Address | IPv6Address


def configured_names() -> frozenset[str]:
    """`localhost`, and what the variable adds; what is no host name there is a `ServingError`."""
    names = frozenset(re.split(r"[\s,]+", Settings().host_names.lower())) - {""}
    wrong = sorted(name for name in names if not _NAME.fullmatch(name))
    if wrong:
        raise ServingError(
            f"ASSAY_HOST_NAMES holds {wrong[0][:100]!r}, which is no host name. Give names without scheme and port, separated by commas."
        )
    return names | {"localhost"}


def check_host(scope: Scope, names: frozenset[str]) -> None:
    """A `Refusal` unless every host that a request names is one of `names` or an address of this server."""
    given = tuple(_given(scope))
    if not given:
        raise Refusal(
            "The request has no Host header. Send one: HTTP/1.1 clients do.",
            code="no_host",
        )
    for authority in given:
        if not _is_ours(authority, scope, names):
            raise Refusal(
                f"This server does not answer as {authority[:100]!r}. Call it by its address or by localhost, "
                "or start it with that name in ASSAY_HOST_NAMES.",
                status=421,
                code="unknown_host",
            )


def target_authority(target: bytes) -> bytes | None:
    """The host of a target that is a whole URL, as a proxy sends it (RFC 9112, 3.2.2)."""
    scheme, found, rest = target.partition(b"://")
    if not found or scheme.lower() not in (b"http", b"https"):
        return None
    return rest.partition(b"/")[0]


def _given(scope: Scope) -> Iterator[str]:
    for name, value in scope["headers"]:
        if name == b"host":
            yield value.decode("latin-1").lower()
    authority = target_authority(scope.get("raw_path", b""))
    if authority is not None:
        yield authority.decode("latin-1").lower()


def _is_ours(authority: str, scope: Scope, names: frozenset[str]) -> bool:
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return False
    name = found["name"]
    address = _address(name.strip("[]"))
    if address is None or name in names:
        return name in names
    # The address that the client reached, and those that are this machine whatever it is called.
    return address.is_loopback or address == _address(
        (scope.get("server") or ("", 0))[0]
    )


def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
