"""One flow run in a process of its own, as the worker starts it: `python -m flows.schedule.engine`. It ends when the worker does."""

import os
import runpy

from core.environment import quieten
from pipelines.__main__ import end_with_the_run


def main() -> None:
    """Watch the worker first, then hand over to Prefect's engine."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")  # here there is a page on which somebody reads it
    quieten()
    end_with_the_run()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
