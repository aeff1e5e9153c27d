"""What runs by itself, put into Prefect: the work pool, the deployments of `infra/prefect.yaml`, the automations. Twice is as once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import OperationError
from core.git import without_repository
from core.project import find_project
from flows.schedule.worker import POOL

FILE = "infra/prefect.yaml"


def deploy(home: Path) -> None:
    """Make the Prefect server at `PREFECT_API_URL` hold what the file says; `OperationError` where it does not take it."""
    root = find_project(home).root
    _make_pool()
    with _pauses_kept():
        _deploy_file(root)
    from flows.schedule.automations import install

    install()


def _make_pool() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(
                WorkPoolCreate(name=POOL, type="process", base_job_template=template)
            )
        except ObjectAlreadyExists:
            return


@contextmanager
def _pauses_kept() -> Iterator[None]:
    """Whoever paused a deployment in the UI meant it: Prefect's command would start it again."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        paused = [each.id for each in client.read_deployments() if each.paused]
        try:
            yield
        finally:
            for deployment in paused:
                client.pause_deployment(deployment)


def _deploy_file(root: Path) -> None:
    """By Prefect's own command, which knows every field of the file."""
    command = [
        sys.executable,
        "-m",
        "prefect",
        "--no-prompt",
        "deploy",
        "--all",
        "--prefect-file",
        FILE,
    ]
    own = {
        "ASSAY_ROOT": str(root),
        "ASSAY_PYTHON": sys.executable,
        "PYTHONPATH": str(root),
    }
    environment = {**without_repository(os.environ), **own}
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or [
            f"code {done.returncode}"
        ]
        raise OperationError(
            f"Prefect did not take {FILE} ({said[0][:300]}). Mend the file, then `assay up` again."
        )


if __name__ == "__main__":
    from core.environment import set_library_environment
    from core.settings import Settings

    set_library_environment()
    deploy(Settings().home)
