"""What of an address may be shown: never a login, whatever else the text is.

An address with a secret in it is often malformed, since people do not escape what they paste. So nothing here trusts a parser: what
does not look like a host is not shown.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

NOT_SHOWN = "<not shown>"
ADDRESSES = (
    "ASSAY_LEDGER_URL",
    "ASSAY_WITNESS",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_REGISTRY_URI",
    "PREFECT_API_URL",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    *(
        name
        for proxy in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
        for name in (proxy, proxy.upper())
    ),
)
"""Settings that hold one address each, with a login in it or without."""
SEVERAL = "ASSAY_NOTIFY"
"""Holds addresses of Apprise, each of which is a secret as a whole."""
SECRETS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PGPASSWORD",
)
"""Settings that are secrets."""
_SHOWN = frozenset(
    {"http", "https", "ws", "wss", "postgres", "postgresql", "mysql", "mssql"}
)
_FILES = frozenset({"sqlite", "file"})
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_PLACE = re.compile(rf"(?:{_HOST}(?:,{_HOST})*)?(?:/[^?#;@]*)?(?=[?#;]|$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_WITH_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*@[^\s'\"<>]*")
_NAME_OF_A_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
"""As of this machine, which stands in most of what is said."""
_LEAST = 6


class Login(NamedTuple):
    """What stands before the @."""

    user: str
    password: str


def shown(address: str) -> str:
    """The address without login, query and fragment; of one that cannot be understood the scheme at most."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return NOT_SHOWN if "@" in address and ":" in address else address
    if not _SCHEME.fullmatch(scheme):
        return NOT_SHOWN
    kind = scheme.lower().partition("+")[0]
    if kind in _FILES:
        return (
            address.partition("?")[0]
            if rest.startswith("/")
            else f"{scheme}://{NOT_SHOWN}"
        )
    place = _place(rest) if kind in _SHOWN else None
    return f"{scheme}://{NOT_SHOWN if place is None else place}"


def _place(rest: str) -> str | None:
    """Hosts and path behind the last @, which may be part of a password; None where that is not certain."""
    before, _, behind = rest.rpartition("@")
    found = _PLACE.match(behind)
    return None if found is None or any(mark in before for mark in "/?#") else found[0]


def split_login(address: str) -> tuple[str, Login | None]:
    """The address without its login, and the login; `ValueError` (which shows nothing) where it is not certain which is which."""
    scheme, mark, rest = address.partition("://")
    before, at, behind = rest.rpartition("@")
    if not mark or _place(rest) is None:
        raise ValueError("the address cannot be understood")
    if not at:
        return address, None
    user, _, password = before.partition(":")
    return f"{scheme}://{behind}", Login(unquote(user), unquote(password))


def without_secrets(text: str) -> str:
    """A text for people, logs and databases: no secret of this process's settings, and no address with a login."""
    for address, instead in _whole():
        text = text.replace(address, instead)
    text = _WITH_LOGIN.sub(lambda found: _shown_in_text(found[0]), text)
    for secret in _secrets():
        text = text.replace(secret, NOT_SHOWN)
    return text


def _shown_in_text(found: str) -> str:
    """An address in a sentence, which may end with the sentence's own mark."""
    plain = found.rstrip(".,;:!?)]}")
    return shown(plain) + found[len(plain) :]


def _whole() -> Iterator[tuple[str, str]]:
    """The settings' addresses as they are written, which no expression would find whole, and what is shown of each."""
    for name in ADDRESSES:
        address = os.environ.get(name, "")
        if _may_hold_secret(address):
            yield address, shown(address)
    for address in os.environ.get(SEVERAL, "").split():
        yield address, f"{address.partition('://')[0]}://{NOT_SHOWN}"


def _secrets() -> list[str]:
    """Every secret by itself, the longest first: one may be part of another."""
    parts = {part for name in ADDRESSES for part in _parts(os.environ.get(name, ""))}
    parts |= {
        part
        for name in SECRETS
        for part in (
            os.environ.get(name, ""),
            os.environ.get(name, "").partition(":")[2],
        )
    }
    parts |= {
        part
        for address in os.environ.get(SEVERAL, "").split()
        for part in _words(address.partition("://")[2])
    }
    return sorted(filter(_is_telling, parts), key=len, reverse=True)


def _may_hold_secret(address: str) -> bool:
    return "://" in address and shown(address) != address


def _parts(address: str) -> Iterator[str]:
    """Whatever may be a password in it, as it is written and as it is meant."""
    if not _may_hold_secret(address):
        return
    rest = address.partition("://")[2]
    before, _, behind = rest.rpartition("@")
    candidates = {before, before.partition(":")[2], *re.findall(r"=([^&;#]+)", behind)}
    if shown(address).endswith(NOT_SHOWN):
        candidates.add(rest)
    for each in candidates:
        yield each
        yield unquote(each)


def _words(rest: str) -> Iterator[str]:
    """The parts of an Apprise address: tokens may stand anywhere in it."""
    for each in (rest, *re.split(r"[/@:?&=#]", rest)):
        if not _NAME_OF_A_HOST.fullmatch(each):
            yield each
            yield unquote(each)


def _is_telling(secret: str) -> bool:
    """Long or odd enough to be nothing else. Whoever has the password "assay" must still be able to read this program's name."""
    return len(secret) >= _LEAST and (not secret.isalpha() or len(secret) >= 2 * _LEAST)
