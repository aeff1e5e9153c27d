"""A call to MLflow: tried a bounded number of times, with jitter, and explained in one sentence where it fails."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from tenacity import RetryError, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipelines.errors import RegistryError

_T = TypeVar("_T")
ATTEMPTS = 5
_PASSWORD = re.compile(r"//[^/@\s]+@")
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


class Calls:
    """Calls to MLflow at one address."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def _attempts(self) -> Retrying:
        return Retrying(stop=stop_after_attempt(ATTEMPTS), wait=wait_random_exponential(0.2, max=4), retry=retry_if_exception(_may_pass))

    def attempt(self, call: Callable[[], _T]) -> _T:
        """What the call gives; `RegistryError` where MLflow refuses, or does not answer in all attempts."""
        from mlflow.exceptions import MlflowException

        try:
            return self._attempts()(call)
        except RetryError as error:
            cause = error.last_attempt.exception()
            raise self._explained(cause, f"MLflow at {self.uri} did not take it in {ATTEMPTS} attempts") from cause
        except MlflowException as error:
            raise self._explained(error, f"MLflow at {self.uri} refused") from error

    def look_up(self, call: Callable[[], _T]) -> _T | None:
        """As `attempt`, with None for what MLflow says does not exist."""
        from mlflow.exceptions import MlflowException

        try:
            return self._attempts()(call)
        except RetryError as error:
            cause = error.last_attempt.exception()
            raise self._explained(cause, f"MLflow at {self.uri} did not answer in {ATTEMPTS} attempts") from cause
        except MlflowException:
            return None

    def _explained(self, cause: Any, what: str) -> RegistryError:
        first_line = str(cause).strip().split("\n", 1)[0][:200]
        text = f"{what} ({first_line}). Nothing is lost: when MLflow at {self.uri} answers, run the same command again."
        return RegistryError(_PASSWORD.sub("//", text))


def _may_pass(error: BaseException) -> bool:
    """Whether the same call may go better the next time: not where MLflow says that something does not exist or does not fit."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if isinstance(error, MlflowException):
        return error.error_code not in _ABSENT
    return isinstance(error, SQLAlchemyError | OSError)
