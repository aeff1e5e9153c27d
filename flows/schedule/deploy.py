"""Put what runs by itself into Prefect: work pool, deployments and automations.

`infra/prefect.yaml` defines the deployments.
Doing so twice has the effect of doing so once.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from core.children import OWN_MODULE
from core.errors import OperationError
from core.files import write_text
from core.git import drop_repository_variables
from core.project import Project, find_project
from flows.schedule.model_deployments import expand
from flows.schedule.worker import POOL

FILE = "infra/prefect.yaml"
_TAG = "assay"


def deploy(home: Path) -> None:
    """Make the Prefect server at `PREFECT_API_URL` hold what the file says.

    `OperationError` where Prefect refuses the file.
    """
    project = find_project(home)
    # Deployments name the pool, so it must be there before them.
    _make_pool()
    with _pauses_kept():
        declared = _deploy_file(project)
    _remove_former(project, declared)
    from flows.schedule.automations import install

    install()


def _make_pool() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    # Prefect's own template: ours differs in infra/prefect.yaml alone.
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(
            name=POOL,
            type="process",
            base_job_template=template,
        )
        try:
            client.create_work_pool(pool)
        except ObjectAlreadyExists:
            return


@contextmanager
def _pauses_kept() -> Iterator[None]:
    """Pause again what was paused: Prefect's command starts every deployment that it applies."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        # Read before the command runs, since that changes them.
        deployments = client.read_deployments()
        paused = [each.id for each in deployments if each.paused]
        try:
            yield
        finally:
            for deployment in paused:
                client.pause_deployment(deployment)


def _remove_former(project: Project, declared: set[str]) -> None:
    """Remove what this project deployed and declares no longer: it would go on training by night.

    Those of other projects on the same server, and of a person's own, work in another folder.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            folder = (deployment.job_variables or {}).get("working_dir")
            is_ours = deployment.work_pool_name == POOL and _TAG in deployment.tags
            is_of_project = is_ours and folder == str(project.root)
            if is_of_project and deployment.name not in declared:
                # Another `assay up` may have removed it first.
                with suppress(ObjectNotFound):
                    client.delete_deployment(deployment.id)


def _deploy_file(project: Project) -> set[str]:
    """Apply the file by Prefect's own command, which knows every field of it; give the names."""
    root = project.root
    expanded = project.home / "deployments.yaml"
    text = expand(_read(root / FILE), root)
    write_text(expanded, text)
    command = [*OWN_MODULE, "prefect", "--no-prompt"]
    command += ["deploy", "--all", "--prefect-file", str(expanded)]
    own = {"ASSAY_ROOT": str(root), "ASSAY_PYTHON": sys.executable}
    # In a process of its own: the command is made for the command line.
    process = subprocess.run(
        command,
        cwd=root,
        env={**drop_repository_variables(os.environ), **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if process.returncode != 0:
        output = process.stderr.strip() or process.stdout.strip()
        lines = output.splitlines() or [f"code {process.returncode}"]
        raise OperationError(
            f"Prefect did not take {FILE} ({lines[-1][:300]}). Fix the file, then `assay up` again."
        )
    return {str(entry["name"]) for entry in yaml.safe_load(text)["deployments"]}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperationError(
            f"{path}, which lists the deployments, cannot be read ({type(error).__name__}). "
            "Bring it back from git, or have `assay upgrade --apply` write it."
        ) from error


if __name__ == "__main__":
    from core.environment import set_library_environment
    from core.settings import Settings

    set_library_environment()
    deploy(Settings().home)
