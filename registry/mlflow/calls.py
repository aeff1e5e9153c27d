"""A call to MLflow: tried a bounded number of times, with jitter, and explained in one sentence where it fails."""

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from core.address import shown
from core.errors import RegistryError

_T = TypeVar("_T")
ATTEMPTS = 5
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
_IN_SENTENCE = re.compile(r"failed with error code (401|403)\b")
_LOGIN = (
    "MLflow at {address} does not know this login (401, {user}). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
    " or MLFLOW_TRACKING_TOKEN, to one that it knows."
)
_RIGHTS = (
    "MLflow at {address} does not allow that {user} (403, {said}). Ask its admin for the right, or set MLFLOW_TRACKING_USERNAME and"
    " MLFLOW_TRACKING_PASSWORD to an account that has it."
)


_REFUSED = {401: _LOGIN, 403: _RIGHTS}


class Calls:
    """Calls to MLflow at one address."""

    def __init__(self, uri: str) -> None:
        self.address = shown(uri)
        """As people may see it."""

    def _attempts(self) -> Retrying:
        return Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(0.2, max=4),
            retry=retry_if_exception(_may_pass),
        )

    def attempt(self, call: Callable[[], _T]) -> _T:
        """What the call gives; `RegistryError` where MLflow refuses, or does not answer in all attempts."""
        from mlflow.exceptions import MlflowException

        try:
            return self._attempts()(call)
        except RetryError as error:
            cause = error.last_attempt.exception()
            raise self._explained(
                cause,
                f"MLflow at {self.address} did not take it in {ATTEMPTS} attempts",
            ) from cause
        except (MlflowException, OSError) as error:
            raise self._refusal(error) from error

    def look_up(self, call: Callable[[], _T]) -> _T | None:
        """As `attempt`, with None for what MLflow says does not exist."""
        from mlflow.exceptions import MlflowException

        try:
            return self._attempts()(call)
        except RetryError as error:
            cause = error.last_attempt.exception()
            raise self._explained(
                cause, f"MLflow at {self.address} did not answer in {ATTEMPTS} attempts"
            ) from cause
        except (MlflowException, OSError) as error:
            if _status(error) in _REFUSED:
                raise self._refusal(error) from error
            return None

    def _refusal(self, error: Any) -> RegistryError:
        refused = _REFUSED.get(_status(error))
        if refused is None:
            return self._explained(error, f"MLflow at {self.address} refused")
        return RegistryError(
            refused.format(address=self.address, said=_first_line(error), user=_user())
        )

    def _explained(self, cause: Any, what: str) -> RegistryError:
        text = f"{what} ({_first_line(cause)}). Nothing is lost: when MLflow at {self.address} answers, run the same command again."
        return RegistryError(text)


def _user() -> str:
    """Whom MLflow was told that we are."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if name and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return f"as {name!r}"
    return (
        "with a token" if os.environ.get("MLFLOW_TRACKING_TOKEN") else "without a login"
    )


def _first_line(cause: Any) -> str:
    return str(cause).strip().split("\n", 1)[0][:200]


def _status(error: Any) -> int:
    """401, 403, or 0 for anything else. An answer that is no JSON of MLflow's has its number in the sentence alone."""
    answered = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(answered, int):
        return answered
    if getattr(error, "error_code", "") == "UNAUTHENTICATED":
        return 401
    if getattr(error, "error_code", "") == "PERMISSION_DENIED":
        return 403
    found = _IN_SENTENCE.search(str(error))
    return int(found[1]) if found else 0


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may go better the next time: not where MLflow says that something does not exist or does not fit."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        return error.error_code not in _ABSENT and _status(error) not in _REFUSED
    return (
        isinstance(error, SQLAlchemyError | OSError) and _status(error) not in _REFUSED
    )
