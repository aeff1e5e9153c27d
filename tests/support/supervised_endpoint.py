"""The endpoint under `assay up`, without the other services.

`python -m tests.support.supervised_endpoint HOME PORT`.
"""

import sys
from pathlib import Path

from core.project import Project
from operations.services import Ports, services
from operations.start_display import StartDisplay
from operations.supervise.processes import adopt_orphans
from operations.supervise.watch import SupervisedService
from operations.up import RunningServices, surroundings


def main(home: Path, port: int) -> None:
    """Until it is told to end."""
    adopt_orphans()
    project = Project(Path.cwd(), home)
    endpoint = next(
        each
        for each in services(project, Ports(endpoint=port))
        if each.name == "endpoint"
    )
    watched = SupervisedService(endpoint, surroundings(project))
    RunningServices(project, (watched,), StartDisplay(home)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
