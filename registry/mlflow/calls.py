"""Calls to MLflow: a bounded number of attempts, with jitter, and one sentence on failure."""

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
_LONGEST_QUOTE = 200
_ABSENT = {
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
}
_CODE_IN_SENTENCE = re.compile(r"failed with error code (401|403)\b")
_UNKNOWN_LOGIN = (
    "MLflow at {address} does not know this login (401, {user}). "
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD,"
    " or MLFLOW_TRACKING_TOKEN, to one that it knows."
)
_MISSING_RIGHT = (
    "MLflow at {address} does not allow that {user} (403, {sentence}). "
    "Ask its admin for the right, or set MLFLOW_TRACKING_USERNAME and"
    " MLFLOW_TRACKING_PASSWORD to an account that has it."
)
_REFUSALS = {401: _UNKNOWN_LOGIN, 403: _MISSING_RIGHT}


class Calls:
    """Calls to MLflow at one address."""

    def __init__(self, uri: str) -> None:
        self.address = shown(uri)
        """As people may see it, without login."""

    def attempt(self, call: Callable[[], _T]) -> _T:
        """Return the call's result.

        `RegistryError` where MLflow refuses, or does not answer in all attempts.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._retry(call, "did not take it")
        # `requests` reports HTTP errors as OSError: 401 and 403 may come in that form.
        except (MlflowException, OSError) as error:
            raise self._refusal(error) from error

    def look_up(self, call: Callable[[], _T]) -> _T | None:
        """Return the call's result, or None where MLflow says that it does not exist.

        `RegistryError` as with `attempt`.
        """
        from mlflow.exceptions import MlflowException

        try:
            return self._retry(call, "did not answer")
        except (MlflowException, OSError) as error:
            # To somebody without the right a thing is not absent: that would be a wrong answer.
            if _status(error) in _REFUSALS:
                raise self._refusal(error) from error
            return None

    def _retry(self, call: Callable[[], _T], failure: str) -> _T:
        """Try the call while it may pass; an error that repeating cannot help comes at once."""
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            # With jitter: processes that failed together do not come back together.
            wait=wait_random_exponential(0.2, max=4),
            retry=retry_if_exception(_may_pass_later),
        )
        try:
            return retrying(call)
        except RetryError as error:
            cause = error.last_attempt.exception()
            fact = f"MLflow at {self.address} {failure} in {ATTEMPTS} attempts"
            raise self._explain(cause, fact) from cause

    def _refusal(self, error: Any) -> RegistryError:
        sentence = _REFUSALS.get(_status(error))
        if sentence is None:
            return self._explain(error, f"MLflow at {self.address} refused")
        return RegistryError(
            sentence.format(
                address=self.address,
                sentence=_first_line(error),
                user=_name_login(),
            )
        )

    def _explain(self, cause: Any, fact: str) -> RegistryError:
        return RegistryError(
            f"{fact} ({_first_line(cause)}). Nothing is lost: "
            f"when MLflow at {self.address} answers, run the same command again."
        )


def _name_login() -> str:
    """By which login MLflow's client introduces itself."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    # The client uses a name only together with a password.
    if name and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        return f"as {name!r}"
    has_token = bool(os.environ.get("MLFLOW_TRACKING_TOKEN"))
    return "with a token" if has_token else "without a login"


def _first_line(cause: Any) -> str:
    # An answer of a proxy may be a whole page of HTML.
    text = str(cause).strip()
    line = text.split("\n", 1)[0]
    return line[:_LONGEST_QUOTE]


def _status(error: Any) -> int:
    """401, 403, or 0 for anything else."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(status, int):
        return status
    error_code = getattr(error, "error_code", "")
    if error_code == "UNAUTHENTICATED":
        return 401
    if error_code == "PERMISSION_DENIED":
        return 403
    # An answer that is not MLflow's JSON has its status in the sentence alone.
    match = _CODE_IN_SENTENCE.search(str(error))
    return int(match[1]) if match else 0


def _may_pass_later(error: BaseException) -> bool:
    """Whether the same call may succeed the next time.

    Not where MLflow says that something does not exist, does not fit, or is not allowed.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if _status(error) in _REFUSALS:
        return False
    if isinstance(error, MlflowException):
        return error.error_code not in _ABSENT
    return isinstance(error, SQLAlchemyError | OSError)
