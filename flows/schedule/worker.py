"""Prefect's worker: `python -m flows.schedule.worker`.

It ends with its owner, and its flow runs end with it.
"""

import os
import sys

from core.environment import set_library_environment
from core.lifetime import end_with_the_run

POOL = "assay"
SECONDS_BETWEEN_POLLS = 2
# Prefect accepts nothing shorter.
SECONDS_BETWEEN_HEARTBEATS = 30


def main() -> None:
    """Poll the work pool until stopped."""
    set_library_environment()
    end_with_the_run()
    # Set before Prefect is imported, which reads its settings once.
    os.environ |= environment()
    sys.argv = [
        "prefect",
        "worker",
        "start",
        "--pool",
        POOL,
        "--type",
        "process",
        "--name",
        "assay",
    ]
    from prefect.cli import app

    app()


def environment() -> dict[str, str]:
    """What the worker and its flow runs inherit.

    Flow runs end with this process, and send a sign of life every half minute.
    """
    return {
        "ASSAY_RUN_PID": str(os.getpid()),
        "PREFECT_WORKER_QUERY_SECONDS": str(SECONDS_BETWEEN_POLLS),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(SECONDS_BETWEEN_HEARTBEATS),
    }


if __name__ == "__main__":
    main()
