"""The endpoint under `assay up`, without the other services: `python -m tests.serving.endpoint.supervised HOME PORT`."""

import sys
from pathlib import Path

from flows.run.workspace import Project
from flows.system.processes import adopt_orphans
from flows.system.progress import Progress
from flows.system.services import Ports, services
from flows.system.up import _System
from flows.system.watched import Watched


def main(home: Path, port: int) -> None:
    """Until it is told to end."""
    adopt_orphans()
    project = Project(Path.cwd(), home)
    endpoint = next(each for each in services(project, Ports(endpoint=port)) if each.name == "endpoint")
    _System(project, (Watched(endpoint, project),), Progress(home)).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
