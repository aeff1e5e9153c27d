"""API keys of an endpoint: kept as digests in its home, and read again whenever that file changes.

A key is 256 random bits, so its SHA-256 gives it away to nobody: a slow hash guards short secrets.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from core.errors import DamagedFile, ServingError
from core.locks import api_keys_lock, exclusive
from core.private_file import write_private
from core.value import Value
from pipelines.engines.refusal import Refusal

FILE = "api_keys.json"
_PREFIX = "assay"
_ID_BYTES = 4
_SECRET_BYTES = 32
# What an unknown id is compared with, so that it takes as long as a known one.
_NOBODYS = hashlib.sha256(b"").hexdigest()


class ApiKey(Value):
    """One key as the home keeps it: whoever reads this cannot make the key of it."""

    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: datetime
    revoked: datetime | None = None
    # None: as many as there are.
    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_day: int | None = Field(default=None, ge=1)


class ApiKeyFile(Value):
    """All keys of a home, revoked ones included."""

    keys: tuple[ApiKey, ...] = ()


class NewApiKey(NamedTuple):
    """A key and its text, which is nowhere else and is shown once."""

    key: ApiKey
    text: str


class _FileFacts(NamedTuple):
    """What changes where the file is written or exchanged."""

    inode: int
    size: int
    modified_ns: int


class ApiKeyBook:
    """The keys of a running endpoint.

    The file is looked at for each request: a key that is revoked opens nothing from then on.
    """

    def __init__(self, home: Path, *, always_asks: bool) -> None:
        self._path = home / FILE
        self._always_asks = always_asks
        self._facts: _FileFacts | None = None
        self._keys: dict[str, ApiKey] = {}

    def find(self, authorization: str) -> ApiKey | None:
        """The key of a header `Authorization`; None where none is asked for.

        `Refusal` where one is asked for and this is none that counts.
        """
        self._read_again()
        if not self._keys and not self._always_asks:
            return None
        scheme, _, text = authorization.partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise _no_key_error()
        key_id, secret = _split(text)
        key = self._keys.get(key_id)
        expected = _NOBODYS if key is None else key.sha256
        # In constant time, also for an id that is nobody's.
        is_right = hmac.compare_digest(_digest(secret), expected)
        if key is None or not is_right or key.revoked is not None:
            raise _wrong_key_error()
        return key

    def _read_again(self) -> None:
        facts = _facts_of(self._path)
        if facts == self._facts:
            return
        # Read after the look at it: a file that changes in between is read once more.
        try:
            keys = read_keys(self._path)
        except DamagedFile as error:
            # Whoever may not be asked for a key any more must not be let in.
            raise _unreadable_error() from error
        self._keys = {key.id: key for key in keys}
        self._facts = facts
        # From the first key on: a file that is lost must not open the door to everybody.
        self._always_asks = self._always_asks or bool(keys)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file; none where there is no file. `DamagedFile` where it holds others."""
    if not path.exists():
        return ()
    return ApiKeyFile.read(path).keys


def list_keys(home: Path) -> tuple[ApiKey, ...]:
    """The keys of a home, the oldest first."""
    path = home / FILE
    return read_keys(path)


def create_key(
    home: Path,
    name: str,
    requests_per_minute: int | None = None,
    tokens_per_day: int | None = None,
) -> NewApiKey:
    """Make a key; the endpoint takes it from the next request on."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    key = ApiKey(
        id=secrets.token_hex(_ID_BYTES),
        name=name,
        sha256=_digest(secret),
        created=datetime.now(UTC),
        requests_per_minute=requests_per_minute,
        tokens_per_day=tokens_per_day,
    )
    with _changing(home) as keys:
        keys.append(key)
    return NewApiKey(key, f"{_PREFIX}_{key.id}_{secret}")


def revoke_key(home: Path, key_id: str) -> ApiKey:
    """Revoke a key by its id; `ServingError` where there is none of that id."""
    with _changing(home) as keys:
        for place, key in enumerate(keys):
            if key.id == key_id:
                # Revoked again it keeps its first time, which is when it ended.
                revoked = key.revoked or datetime.now(UTC)
                keys[place] = key.model_copy(update={"revoked": revoked})
                return keys[place]
        raise ServingError(
            f"There is no API key {key_id[:40]!r}. `assay api-keys list` shows them."
        )


@contextmanager
def _changing(home: Path) -> Iterator[list[ApiKey]]:
    """The keys, to be changed; they are written where no error is raised."""
    path = home / FILE
    # Two commands at once would each write the keys that they had read.
    with exclusive(api_keys_lock(home)):
        keys = list(read_keys(path))
        yield keys
        # Revoked keys stay: without any key in the file nobody would be asked for one.
        document = ApiKeyFile(keys=tuple(keys))
        write_private(path, document.model_dump_json(indent=1) + "\n")


def _split(text: str) -> tuple[str, str]:
    """The id and the secret of a key; both empty where it is none."""
    # Twice at most: the secret may hold this letter itself.
    parts = text.split("_", 2)
    if len(parts) < 3 or parts[0] != _PREFIX:
        return "", ""
    _, key_id, secret = parts
    return key_id, secret


def _digest(secret: str) -> str:
    # A header may hold what no text can: it is the digest of no key, and no error of ours.
    encoded = secret.encode("utf-8", "replace")
    hashed = hashlib.sha256()
    hashed.update(encoded)
    return hashed.hexdigest()


def _facts_of(path: Path) -> _FileFacts | None:
    """None where there is no file."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable_error() from error
    return _FileFacts(facts.st_ino, facts.st_size, facts.st_mtime_ns)


def _no_key_error() -> Refusal:
    return Refusal(
        "This endpoint asks for an API key, and the request has none: send "
        "`Authorization: Bearer` with a key that `assay api-keys create` made.",
        status=401,
        code="invalid_api_key",
    )


def _wrong_key_error() -> Refusal:
    return Refusal(
        "The API key is unknown or revoked. Ask whoever runs this endpoint for another one.",
        status=401,
        code="invalid_api_key",
    )


def _unreadable_error() -> Refusal:
    return Refusal(
        "The endpoint cannot read its API keys, so it lets nobody in. "
        f"Whoever runs it finds the reason in {FILE} of its home.",
        status=503,
        kind="server_error",
        code="keys_unreadable",
    )
