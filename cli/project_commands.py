"""Commands that make a project and keep its files up to date."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.console import say

if TYPE_CHECKING:
    from operations.init.create import InitRequest, NewProject

_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--data", type=_FILE, help="Own rows. Without them the demo's.")
@click.option(
    "--base-model",
    type=_FILE,
    help="Folder of an own base model. Default: SmolLM2-135M-Instruct.",
)
@click.option("--model", help="Name of the first model. Default: data and base.")
@click.option("--licence", help="SPDX identifier of the own rows' licence.")
@click.option(
    "--folder",
    type=_FILE,
    help="Where the project's files go. Default: here, or `assay/` where names are taken.",
)
@click.option("--no-input", is_flag=True, help="Ask nothing, also at a terminal.")
def init(*, no_input: bool, **options: Any) -> None:
    """Make this git repository a project of Assay. Nothing is overwritten."""
    from operations.init.create import InitRequest, create_project

    request = InitRequest(**options)
    # Whoever gives one option has decided, and whoever has no terminal cannot answer.
    is_bare = all(option is None for option in options.values())
    if is_bare and not no_input and sys.stdin.isatty():
        request = _ask()
    _report(create_project(request, Path.cwd()))


def _ask() -> "InitRequest":
    """Ask for rows, base and name; what was understood of the rows is shown at once."""
    from flows.start import default_model_name
    from operations.init.create import InitRequest

    given = {}
    rows = click.prompt(
        "File of rows (empty: the demo's)", default="", show_default=False
    )
    if rows:
        given["data"] = Path(rows).expanduser()
        _show_rows(given["data"])
    base = click.prompt(
        "Folder of the base model (empty: SmolLM2-135M-Instruct)",
        default="",
        show_default=False,
    )
    if base:
        given["base_model"] = Path(base).expanduser()
    if not given:
        return InitRequest()
    model = click.prompt("Name of the model", default=default_model_name(given))
    return InitRequest(**given, model=model)


def _show_rows(path: Path) -> None:
    from operations.inspect_data import InspectRequest, check_usable, inspect_data

    request = InspectRequest(file=path)
    inspection = inspect_data(request)
    # Shown before it is judged: a person sees why rows are not usable.
    click.echo(inspection.text)
    check_usable(inspection, path)


def _report(made: "NewProject") -> None:
    if made.has_new_repository:
        say(f"{made.repository} is a git repository now: runs are pinned as commits.")
    say(f"{made.root} is a project of Assay:")
    for name in made.written:
        say(f"  {name}")
    for path in made.outside:
        say(f"{path} lies outside the repository: other clones of it will not have it.")
    name = "" if made.model is None else f" {made.model}"
    say(f"Next: `assay run{name} --dry-run`, then `assay run{name}`.")


@click.command()
@click.option("--apply", "applies", is_flag=True, help="Write what is shown.")
def upgrade(*, applies: bool) -> None:
    """Show what the installed Assay would change in the files of this project.

    A file that was edited since Assay wrote it is never changed.
    """
    from core.project import find_project
    from core.settings import Settings
    from operations.init.upgrade import apply_upgrade, plan_upgrade

    home = Settings().home
    project = find_project(home)
    root = project.root
    plan = plan_upgrade(project)
    for change in plan.changes:
        effect = _EFFECTS[change.kind]
        say(f"{change.name}: {effect}")
        say(change.diff)
    if not plan.is_needed:
        say(f"The files of {root} are those of Assay {plan.now}.")
    elif applies:
        apply_upgrade(project, plan)
        say(f"The files of {root} are of Assay {plan.now} now.")
    else:
        say(f"Nothing was written. `assay upgrade --apply` goes to Assay {plan.now}.")


_EFFECTS = {
    "new": "is added",
    "replaced": "is replaced, since nobody edited it",
    "extended": "gets the parameters that it lacks",
    "edited": "stays, since it was edited; take over by hand what you want of this",
}
COMMANDS: tuple[click.Command, ...] = (init, upgrade)
