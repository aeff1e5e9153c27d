"""`assay serve`: what is released. `assay preview`: a registered version or the base, looked at before it is released."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.environment import set_library_environment
from core.errors import RegistryError
from core.files import write_text
from core.home import make_home
from core.progress import at_work
from core.project import Project, find_project
from core.settings import Settings
from pipelines import layout
from pipelines.stages.base_model import base_model, locate
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import Params, load_params
from registry.mlflow.home_store import open_store, tell_moved


@dataclass(frozen=True)
class Served:
    """What an endpoint is started with."""

    base_folder: Path
    base_manifest: Path
    package: Path | None
    params: Params
    name: str

    def command(self, port: int) -> list[str]:
        """Arguments of `python -m serving`: the configuration that was scored."""
        arguments = [
            "--base-folder",
            str(self.base_folder),
            "--base-manifest",
            str(self.base_manifest),
            "--port",
            str(port),
        ]
        arguments += ["--precision", self.params.generation.precision]
        arguments += [
            "--default-max-tokens",
            str(self.params.generation.max_new_tokens),
        ]
        return arguments + (
            ["--package", str(self.package), "--model-name", self.name]
            if self.package
            else []
        )


def run_serve(port: int) -> None:
    """The endpoint that follows releases, in the foreground until it is stopped."""
    set_library_environment()
    from serving.endpoint.__main__ import run

    home = find_project(Settings().home).home
    with suppress(RegistryError):  # what is served needs no MLflow
        tell_moved(home)
    run(["--home", str(home), "--port", str(port)])


def run_preview(model: str, version: str | None, port: int) -> None:
    """Answer on this machine until stopped, and release nothing; `version` None is the base model of params.yaml alone."""
    set_library_environment()
    from serving.__main__ import run
    from serving.listen import open_socket

    with open_socket("127.0.0.1", port):
        pass  # a port that is taken is said before a model is fetched
    project = find_project(Settings().home)
    make_home(project.home)
    with at_work(
        f"Fetching {'the base model' if version is None else f'version {version} of {model}'}"
    ):
        served = (
            served_base(project)
            if version is None
            else served_version(project, model, version)
        )
    run([*served.command(port), "--preview"])


def served_version(project: Project, model: str, version: str) -> Served:
    """Fetch a version's package, every byte checked, and find its base model on this machine."""
    store = open_store(project)
    found = store.get_version(model, version)
    package = store.fetch(found, project.home / "packages" / found.package_sha256)
    manifest = package / "base_model.json"
    folder = locate(BaseModelManifest.read(manifest), project.home).resolve()
    return Served(
        folder, manifest, package, load_params(package / "params.yaml"), model
    )


def served_base(project: Project) -> Served:
    """The base model that params.yaml names."""
    params = load_params(project.root / layout.PARAMS)
    manifest, template = base_model(params.base_model, project.home)
    folder = project.home / "base-manifests" / manifest.content_sha256()
    manifest.write(folder / "manifest.json")
    if template is not None:
        write_text(folder / "chat_template.jinja", template)
    return Served(
        locate(manifest, project.home).resolve(),
        folder / "manifest.json",
        None,
        params,
        manifest.id,
    )
