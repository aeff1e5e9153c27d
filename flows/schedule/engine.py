"""One flow run in a process of its own: `python -m flows.schedule.engine`.

The worker starts it, and it ends when the worker does.
"""

import os
import runpy
from contextlib import suppress

from core.console import add_listener
from core.environment import set_library_environment
from core.lifetime import end_with_the_run


def main() -> None:
    """Watch the worker first, then hand over to Prefect's engine."""
    os.environ.setdefault(
        "PREFECT_LOGGING_LEVEL", "INFO"
    )  # here there is a page on which somebody reads it
    set_library_environment()
    end_with_the_run()
    add_listener(_log_in_prefect)
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


def _log_in_prefect(text: str) -> None:
    """Show a line on the flow run's page in the Prefect UI, where there is a run."""
    from prefect import get_run_logger
    from prefect.exceptions import MissingContextError

    with suppress(MissingContextError):
        get_run_logger().info(text)


if __name__ == "__main__":
    main()
