"""The option that names a model, and what it is where nobody gives it."""

from pathlib import Path

import click

DEMO = "cheat-smollm2"


def default_model() -> str:
    """The only model that the project configures; the demo's where it configures none.

    `ParameterError` where there are several.
    """
    # Imported here, since `assay --help` needs none of it.
    from core.project import find_root
    from flows.run.model_files import only_model

    root = find_root(Path.cwd())
    return (only_model(root) if root is not None else None) or DEMO


MODEL = click.option(
    "--model",
    default=default_model,
    help="Name of the registered model. Default: the only one of models/, or the demo's.",
)
