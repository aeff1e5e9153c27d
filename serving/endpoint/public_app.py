"""The endpoint's interface with everything that stands between it and clients.

browser's question ─▶ origins ─▶ keys and quotas ─▶ routes
"""

from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from serving.endpoint.api_keys import ApiKeyBook
from serving.endpoint.keyed_app import CountRefused, KeyedApp
from serving.endpoint.public_settings import PublicSettings

# Seconds for which a browser need not ask again.
_SECONDS_REMEMBERED = 600
# What a page's program may read beside the body.
_SHOWN_HEADERS = (
    "retry-after",
    "x-assay-cache",
    "x-assay-fallback",
    "x-assay-fingerprint",
    "x-assay-prompt-tokens",
    "x-assay-release",
)


def guard(
    app: FastAPI,
    home: Path,
    settings: PublicSettings,
    count_refused: CountRefused,
    *,
    is_local: bool,
) -> None:
    """Put keys, quotas and origins around the routes.

    Whoever listens beyond this machine asks for keys, also before there is one.
    """
    always_asks = settings.always_asks or not is_local
    book = ApiKeyBook(home, always_asks=always_asks)
    app.add_middleware(KeyedApp, book=book, count_refused=count_refused)
    if not settings.origins:
        return
    # Outermost: a browser asks without a key whether it may send one.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        # Every route has one of them.
        allow_methods=["GET", "POST"],
        # OpenAI's clients send several of their own.
        allow_headers=["*"],
        expose_headers=_SHOWN_HEADERS,
        max_age=_SECONDS_REMEMBERED,
    )
