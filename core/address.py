"""What of an address may be shown: never a login, whatever else the text is.

People do not escape what they paste, so an address with a secret in it is often malformed. Nothing
here trusts a parser: text that does not look like a host is not shown.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

NOT_SHOWN = "<not shown>"
ADDRESSES = (
    "ASSAY_LEDGER_URL",
    "ASSAY_MLFLOW_DATABASE_URL",
    "ASSAY_PREFECT_DATABASE_URL",
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
# Hosts, ports and a path, as far as they cannot hide a password.
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?"
_PLACE = re.compile(rf"(?:{_HOST}(?:,{_HOST})*)?(?:/[^?#;@]*)?(?=[?#;]|$)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}")
_WITH_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]*@[^\s'\"<>]*")
# Host names are no secrets, and that of this machine is in most messages.
_NAME_OF_A_HOST = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_FEWEST_LETTERS = 6


class Login(NamedTuple):
    """The part of an address before the @."""

    user: str
    password: str


def shown(address: str) -> str:
    """The address without login, query and fragment; of a malformed one the scheme at most.

    `https://kim:pw@host/path?token=1` is shown as `https://host/path`.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        looks_like_login = "@" in address and ":" in address
        return NOT_SHOWN if looks_like_login else address
    if not _SCHEME.fullmatch(scheme):
        return NOT_SHOWN
    # `postgresql+psycopg` is an address of PostgreSQL.
    kind = scheme.lower().partition("+")[0]
    if kind in _FILES and rest.startswith("/"):
        return address.partition("?")[0]
    place = _host_and_path(rest) if kind in _SHOWN else None
    if place is None:
        place = NOT_SHOWN
    return f"{scheme}://{place}"


def _host_and_path(rest: str) -> str | None:
    """Hosts and path after the last @; None where it may be part of a password."""
    login, _, place = rest.rpartition("@")
    match = _PLACE.match(place)
    # A mark of a path in front of the @ means that the @ may not end a login.
    is_ambiguous = any(mark in login for mark in "/?#")
    if match is None or is_ambiguous:
        return None
    return match[0]


def split_login(address: str) -> tuple[str, Login | None]:
    """The address without its login, and the login, None where it has none.

    `ValueError` where the two cannot be told apart; its text shows nothing of the address.
    """
    scheme, mark, rest = address.partition("://")
    if not mark or _host_and_path(rest) is None:
        raise ValueError("the address cannot be understood")
    login, at, place = rest.rpartition("@")
    if not at:
        return address, None
    user, _, password = login.partition(":")
    # Their own settings take them as they are meant, not as an address has to write them.
    split = Login(unquote(user), unquote(password))
    return f"{scheme}://{place}", split


def redact_secrets(text: str) -> str:
    """A text for people, logs and databases.

    No secret of this process's settings is left in it, and no address with a login.
    """
    # Whole addresses first: their parts alone would leave a torn address.
    for address, replacement in _address_replacements():
        text = text.replace(address, replacement)
    text = _WITH_LOGIN.sub(lambda match: _shown_in_text(match[0]), text)
    for secret in _secrets():
        text = text.replace(secret, NOT_SHOWN)
    return text


def _shown_in_text(address: str) -> str:
    """An address in a sentence, which may end with the sentence's own mark."""
    plain = address.rstrip(".,;:!?)]}")
    marks = address[len(plain) :]
    return shown(plain) + marks


def _address_replacements() -> Iterator[tuple[str, str]]:
    """Each setting's address with what is shown of it.

    A malformed address has to be replaced as it is written: no expression would match all of it.
    """
    for name in ADDRESSES:
        address = os.environ.get(name, "")
        if _may_hold_secret(address):
            yield address, shown(address)
    for address in _notify_addresses():
        scheme = address.partition("://")[0]
        yield address, f"{scheme}://{NOT_SHOWN}"


def _notify_addresses() -> list[str]:
    setting = os.environ.get(SEVERAL, "")
    return setting.split()


def _secrets() -> list[str]:
    """Every secret by itself, the longest first."""
    candidates: set[str] = set()
    for name in ADDRESSES:
        candidates.update(_address_parts(os.environ.get(name, "")))
    for name in SECRETS:
        setting = os.environ.get(name, "")
        # Prefect's setting is USER:PASSWORD, and the password may be shown by itself.
        candidates |= {setting, setting.partition(":")[2]}
    for address in _notify_addresses():
        candidates.update(_apprise_parts(address.partition("://")[2]))
    secrets = filter(_is_recognisable, candidates)
    # The longest first: a replaced part would hide the rest of a longer one.
    return sorted(secrets, key=len, reverse=True)


def _may_hold_secret(address: str) -> bool:
    is_address = "://" in address
    return is_address and shown(address) != address


def _address_parts(address: str) -> Iterator[str]:
    """Whatever may be a password in an address, both quoted and unquoted."""
    if not _may_hold_secret(address):
        return
    rest = address.partition("://")[2]
    login, _, place = rest.rpartition("@")
    password = login.partition(":")[2]
    query_values = re.findall(r"=([^&;#]+)", place)
    candidates = {login, password, *query_values}
    # Nothing is known of the parts of a malformed address, so all of it is a secret.
    if shown(address).endswith(NOT_SHOWN):
        candidates.add(rest)
    # A library may log the password as it was typed, or as it was meant.
    for candidate in candidates:
        yield candidate
        yield unquote(candidate)


def _apprise_parts(rest: str) -> Iterator[str]:
    """The parts of an Apprise address: any of them may be a token."""
    for part in (rest, *re.split(r"[/@:?&=#]", rest)):
        if not _NAME_OF_A_HOST.fullmatch(part):
            yield part
            yield unquote(part)


def _is_recognisable(secret: str) -> bool:
    """Whether a secret is too long or too odd to be an ordinary word.

    With the password "assay", people must still be able to read this program's name.
    """
    if len(secret) < _FEWEST_LETTERS:
        return False
    if not secret.isalpha():
        return True
    # Long words are rare in messages, so they may be secrets.
    return len(secret) >= 2 * _FEWEST_LETTERS
