"""`assay serve` serves what is released; `assay preview` a version, or the base, to try it.

`assay playground` shows a page to try either.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.environment import set_library_environment
from core.errors import RegistryError
from core.files import write_text
from core.home import make_home
from core.progress import show_activity
from core.project import Project, find_project
from core.settings import Settings
from flows.run.attempt import fetch_package_of
from pipelines import layout
from pipelines.models.base_store import locate_base_model
from pipelines.stages.base_model import base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.params import Params, load_params
from registry.mlflow.home_store import open_store, settle_and_report


@dataclass(frozen=True)
class Served:
    """What an endpoint is started with."""

    base_folder: Path
    base_manifest: Path
    package: Path | None
    """None: the base model alone."""
    params: Params
    name: str

    def command(self, port: int) -> list[str]:
        """Give the arguments of `python -m serving`: the configuration that was scored."""
        generation = self.params.generation
        arguments = ["--base-folder", str(self.base_folder)]
        arguments += ["--base-manifest", str(self.base_manifest)]
        arguments += ["--port", str(port)]
        arguments += ["--precision", generation.precision]
        arguments += ["--default-max-tokens", str(generation.max_new_tokens)]
        if self.package:
            arguments += ["--package", str(self.package)]
            arguments += ["--model-name", self.name]
        else:
            # The base answers under its own name, as a run would score it. A package says itself
            # what scored it.
            arguments += ["--engine", generation.engine]
        return arguments


def run_serve(host: str, port: int) -> None:
    """Run the endpoint that follows releases, in the foreground until it is stopped."""
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from serving.endpoint.__main__ import run

    home = find_project(Settings().home).home
    # What is served needs no MLflow.
    with suppress(RegistryError):
        settle_and_report(home)
    arguments = ["--home", str(home)]
    arguments += ["--host", host, "--port", str(port)]
    run(arguments)


def run_playground(endpoint: str, host: str, port: int) -> None:
    """Show the page in the foreground until it is stopped.

    `ServingError` where it would be open to everybody, or the port is taken.
    """
    # Imported here: `assay serve` needs none of it.
    from serving.playground.__main__ import run

    home = find_project(Settings().home).home
    make_home(home)
    arguments = ["--home", str(home), "--endpoint", endpoint]
    arguments += ["--host", host, "--port", str(port)]
    run(arguments)


def run_preview(model: str, version: str | None, port: int) -> None:
    """Answer on this machine until stopped, and release nothing.

    `version` None is the base model of params.yaml alone. `ServingError` where the port is taken.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from serving.__main__ import run
    from serving.listen import open_socket

    # A taken port is reported before a model is fetched.
    with open_socket("127.0.0.1", port):
        pass
    project = find_project(Settings().home)
    make_home(project.home)
    subject = "the base model" if version is None else f"version {version} of {model}"
    with show_activity(f"Fetching {subject}"):
        if version is None:
            served = served_base(project)
        else:
            served = served_version(project, model, version)
    run([*served.command(port), "--preview"])


def served_version(project: Project, model: str, version: str) -> Served:
    """Fetch a version's package, every byte verified, and find its base model on this machine.

    `RegistryError` where MLflow does not have it.
    """
    store = open_store(project)
    registered = store.get_version(model, version)
    package = fetch_package_of(store, registered, project.home)
    manifest = package / "base_model.json"
    # Every byte of the weights is hashed against the manifest.
    base_folder = locate_base_model(BaseModelManifest.read(manifest), project.home)
    return Served(
        base_folder.resolve(),
        manifest,
        package,
        load_params(package / "params.yaml"),
        model,
    )


def served_base(project: Project) -> Served:
    """Prepare the base model that params.yaml names."""
    # The parameters of the project, since no package has fixed others.
    params = load_params(project.root / layout.PARAMS)
    manifest, template = base_model(params.base_model, project.home)
    digest = manifest.content_sha256()
    folder = project.home / "base-manifests" / digest
    manifest_file = folder / "manifest.json"
    manifest.write(manifest_file)
    if template is not None:
        write_text(folder / "chat_template.jinja", template)
    base_folder = locate_base_model(manifest, project.home).resolve()
    return Served(base_folder, manifest_file, None, params, manifest.id)
