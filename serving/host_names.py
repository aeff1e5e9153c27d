"""Under which names a server answers.

A page in somebody's browser reaches servers of that machine under a name of its own that it lets
point there (DNS rebinding). The browser then sends that name as `Host`, which shows it.
"""

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import Scope

from core.errors import ServingError
from core.settings import Settings
from pipelines.engines.refusal import Refusal

_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
# A name or an address, and perhaps a port; an IPv6 address is in brackets.
_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^\[\]:@/]+)(:[0-9]{0,5})?")
_Address = IPv4Address | IPv6Address


def configured_names() -> frozenset[str]:
    """`localhost`, and the names that `ASSAY_HOST_NAMES` adds.

    `ServingError` where something else than a host name is in there.
    """
    words = re.split(r"[\s,]+", Settings().host_names.lower())
    names = frozenset(words) - {""}
    invalid = sorted(name for name in names if not _NAME.fullmatch(name))
    if invalid:
        raise ServingError(
            f"ASSAY_HOST_NAMES holds {invalid[0][:100]!r}, which is no host name. "
            "Give names without scheme and port, separated by commas."
        )
    return names | {"localhost"}


def check_host(scope: Scope, names: frozenset[str]) -> None:
    """Return only if every host that a request names is one of `names` or this server's address.

    `Refusal` otherwise, and where the request names none.
    """
    authorities = tuple(_named_authorities(scope))
    if not authorities:
        raise Refusal(
            "The request has no Host header. Send one: HTTP/1.1 clients do.",
            code="no_host",
        )
    # Every one: a proxy in front may have gone by another of them than this server would.
    for authority in authorities:
        if not _is_ours(authority, scope, names):
            raise Refusal(
                f"This server does not answer as {authority[:100]!r}. Call it by its address "
                "or by localhost, or start it with that name in ASSAY_HOST_NAMES.",
                status=421,
                code="unknown_host",
            )


def target_authority(target: bytes) -> bytes | None:
    """The host of a target that is a whole URL, as a proxy sends it (RFC 9112, 3.2.2).

    None for a target that is a path.
    """
    scheme, separator, rest = target.partition(b"://")
    if not separator:
        return None
    if scheme.lower() not in (b"http", b"https"):
        return None
    return rest.partition(b"/")[0]


def _named_authorities(scope: Scope) -> Iterator[str]:
    for name, value in scope["headers"]:
        if name == b"host":
            yield value.decode("latin-1").lower()
    target = scope.get("raw_path", b"")
    authority = target_authority(target)
    if authority is not None:
        yield authority.decode("latin-1").lower()


def _is_ours(authority: str, scope: Scope, names: frozenset[str]) -> bool:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return False
    name = match["name"]
    address = _parse_address(name.strip("[]"))
    if address is None or name in names:
        return name in names
    # Loopback is this machine whatever it is called.
    if address.is_loopback:
        return True
    # The address that the client reached.
    server = scope.get("server") or ("", 0)
    return address == _parse_address(server[0])


def _parse_address(text: str) -> _Address | None:
    # A scope such as `%eth0` says through which interface, not which address.
    plain = text.partition("%")[0]
    try:
        address = ip_address(plain)
    except ValueError:
        return None
    # `::ffff:127.0.0.1` is 127.0.0.1.
    mapped: IPv4Address | None = getattr(address, "ipv4_mapped", None)
    return mapped or address
