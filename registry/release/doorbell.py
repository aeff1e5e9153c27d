"""How the controller is rung: a signed request that carries nothing which counts.

The form is that of MLflow's webhooks, so that MLflow may ring, too: HMAC-SHA256 over
`ID.TIMESTAMP.BODY` (https://mlflow.org/docs/latest/ml/webhooks/). What is to be done is in the
ledger and in MLflow. A ring that is lost, repeated or late changes no result.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from core.private_file import secret, write_private

ID, TIMESTAMP, SIGNATURE = (
    "x-mlflow-delivery-id",
    "x-mlflow-timestamp",
    "x-mlflow-signature",
)
SECONDS_OF_VALIDITY = 300
"""How far the clocks of both sides may be apart: MLflow repeats a delivery for seconds."""
_SECONDS_TO_RING = 2.0
_LONGEST_ID = 200


def address_file(home: Path) -> Path:
    """Where the running controller says how it is rung; only the home's owner can read it."""
    return home / "controller" / "doorbell.json"


def bell_secret(home: Path) -> str:
    """The secret of this home's doorbell, made where there is none."""
    return secret(home / "keys" / "doorbell", lambda: secrets.token_urlsafe(32))


def publish_address(home: Path, url: str) -> None:
    """Say where the doorbell of this home is."""
    path = address_file(home)
    # The folder is the controller's own.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = json.dumps({"url": url})
    write_private(path, content)


def withdraw_address(home: Path) -> None:
    """The controller ends: nobody is to ring any more."""
    address_file(home).unlink(missing_ok=True)


def ring(home: Path) -> bool:
    """Ring the controller of this home; False where none answers.

    The controller's timer makes up for a ring that is lost.
    """
    import httpx

    try:
        document = json.loads(address_file(home).read_text(encoding="utf-8"))
        url = str(document["url"])
        reply = httpx.post(
            f"{url}/doorbell",
            content=b"{}",
            headers=sign(bell_secret(home), b"{}"),
            timeout=_SECONDS_TO_RING,
            trust_env=False,
        )
    except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
        return False
    return reply.status_code == httpx.codes.NO_CONTENT


def sign(key: str, body: bytes) -> dict[str, str]:
    """The headers of one delivery."""
    # MLflow numbers its deliveries as well; the number is part of what is signed.
    delivery = str(uuid4())
    timestamp = str(int(time.time()))
    signature = _signature(key, delivery, timestamp, body)
    return {
        ID: delivery,
        TIMESTAMP: timestamp,
        SIGNATURE: signature,
        "content-type": "application/json",
    }


def is_genuine(key: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether somebody who knows the secret signed this delivery just now.

    `now` is in seconds since 1970.
    """
    delivery = headers.get(ID, "")
    timestamp = headers.get(TIMESTAMP, "")
    signature = headers.get(SIGNATURE, "")
    if not delivery or len(delivery) > _LONGEST_ID:
        return False
    # Of ASCII digits alone: `int` reads other scripts and spaces, too.
    is_number = timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 13
    if not is_number:
        return False
    expected = _signature(key, delivery, timestamp, body)
    # In constant time, and before the clock is asked.
    is_signed = hmac.compare_digest(expected.encode(), signature.encode())
    distance = abs(now - int(timestamp))
    return is_signed and distance <= SECONDS_OF_VALIDITY


def _signature(key: str, delivery: str, timestamp: str, body: bytes) -> str:
    signed = f"{delivery}.{timestamp}.".encode() + body
    digest = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    encoded = base64.b64encode(digest).decode()
    return f"v1,{encoded}"
