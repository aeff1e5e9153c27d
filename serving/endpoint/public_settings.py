"""How the endpoint is open to others: keys, cache, pages of other origins, TLS.

Each is read from the environment once, at the start, where a mistake in it is said.
"""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from core.errors import ServingError
from core.settings import Settings
from serving.listen import TlsFiles
from serving.whole_number import parse_whole

_REQUIRED = "required"
_MOST_MEGABYTES = 1_000_000
_MEGABYTE = 1_000_000
# What a browser sends as `Origin`: a scheme, a host, and a port where it is not the usual one.
_ORIGIN = re.compile(
    r"https?://[a-z0-9._-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:\d+)?"
)


@dataclass(frozen=True)
class PublicSettings:
    """What the environment says."""

    # Whether a request needs a key though none was made yet.
    always_asks: bool = False
    # Of answers that are kept; 0: none is.
    cache_bytes: int = 0
    origins: tuple[str, ...] = ()
    tls: TlsFiles | None = None

    @classmethod
    def read(cls) -> "PublicSettings":
        """The settings of this process; `ServingError` that names the one that is wrong."""
        settings = Settings()
        return cls(
            always_asks=_read_api_keys(settings.api_keys),
            cache_bytes=_read_megabytes(settings.answer_cache_mb) * _MEGABYTE,
            origins=_read_origins(settings.allowed_origins),
            tls=_read_tls(settings.tls_certificate, settings.tls_key),
        )


def _read_api_keys(text: str) -> bool:
    if text not in {"", _REQUIRED}:
        raise ServingError(
            f"ASSAY_API_KEYS is {text[:40]!r}. Set it to {_REQUIRED}, or leave it out: "
            "keys are asked for once there is one."
        )
    return text == _REQUIRED


def _read_megabytes(text: str) -> int:
    megabytes = parse_whole(text, _MOST_MEGABYTES)
    if megabytes is not None:
        return megabytes
    raise ServingError(
        f"ASSAY_ANSWER_CACHE_MB is {text[:40]!r}. "
        f"Give a whole number of megabytes up to {_MOST_MEGABYTES}; 0 keeps no answers."
    )


def _read_origins(text: str) -> tuple[str, ...]:
    origins = tuple(filter(None, re.split(r"[\s,]+", text.lower())))
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ServingError(
                f"ASSAY_ALLOWED_ORIGINS holds {origin[:100]!r}, which is no origin. "
                "Give scheme and host of each page, such as https://chat.example, "
                "without a path, separated by commas."
            )
    return origins


def _read_tls(certificate: str, key: str) -> TlsFiles | None:
    if not certificate and not key:
        return None
    if not certificate or not key:
        raise ServingError(
            "TLS needs both ASSAY_TLS_CERTIFICATE and ASSAY_TLS_KEY. Set the other one too."
        )
    files = TlsFiles(Path(certificate), Path(key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # An encrypted key would ask for its password on a terminal that nobody looks at.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (OSError, ssl.SSLError) as error:
        raise ServingError(
            f"ASSAY_TLS_CERTIFICATE {certificate} and ASSAY_TLS_KEY {key} are no certificate "
            f"with its key ({error.strerror or type(error).__name__}). "
            "Give PEM files, the key without a password."
        ) from error
    return files
