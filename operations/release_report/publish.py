"""Write the page of a version, and attach it to the version's run in MLflow."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from core.console import say
from core.environment import set_library_environment
from core.errors import AssayError, RegistryError, first_line
from core.files import write_text
from core.project import find_project
from core.settings import Settings
from operations.history import read_history
from operations.release_report.facts import collect_facts
from operations.release_report.page import render_page
from registry.mlflow.recorded import ModelVersion

if TYPE_CHECKING:
    from flows.judgement import Judgement
    from flows.promote import Promotion

_UNREADABLE = (AssayError, OSError, ValueError, LookupError, ArithmeticError)
FOLDER = "release_report"
"""Among the artifacts of a run."""


def report_release(
    model: str, version: str, out: Path | None, *, attach: bool
) -> Path | None:
    """Judge a version, record nothing, and write its page; gives the file that was written.

    `out` None is `NAME-VERSION.html` here, or no file at all where it is attached. Errors as of
    `judge_version`; `RegistryError` where there is no run to attach it to.
    """
    set_library_environment()
    # After the settings above: libraries read them when they are imported.
    from flows.judgement import judge_version

    # As it would be judged now: the stored verdict may be of another policy.
    judgement = judge_version(find_project(Settings().home), model, version)
    page = make_page(judgement)
    if attach:
        attach_page(judgement, page)
    if out is None and attach:
        return None
    path = out or Path(file_name(judgement.version))
    write_text(path, page)
    return path


def make_page(judgement: "Judgement") -> str:
    """The page of a judged version, with the ledger's entries about it."""
    history = read_history(judgement.version.name)
    home = find_project(Settings().home).home
    facts = collect_facts(judgement, history, home)
    return render_page(facts)


def file_name(version: ModelVersion) -> str:
    """A name of letters that every file system takes: so are names of models."""
    return f"{version.name}-{version.version}.html"


def report_address(version: ModelVersion, server: str) -> str | None:
    """Where MLflow shows the report that is attached; None without a server with pages."""
    if not server.startswith("http"):
        return None
    path = f"{FOLDER}/{file_name(version)}"
    return f"{server}/get-artifact?path={path}&run_uuid={version.run_id}"


def attach_page(judgement: "Judgement", page: str) -> None:
    """Put the page among the artifacts of the run that made the version.

    A later page takes the place of an earlier one. `RegistryError` where no run made it.
    """
    from registry.mlflow.home_store import open_store

    version = judgement.version
    if not version.run_id:
        raise RegistryError(
            f"Version {version.version} of {version.name} has no run in MLflow to attach to. "
            "Leave --attach out, and give --out."
        )
    # MLflow names the artifact as the file is named.
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / file_name(version)
        write_text(path, page)
        store = open_store(find_project(Settings().home))
        store.runs.attach(version.run_id, path, FOLDER)


def attach_to_promoted(promotion: "Promotion") -> None:
    """Attach the page of a version that a promotion has just judged.

    A promotion does not fail by it: what could not be written is said.
    """
    from flows.judgement import judgement_of

    try:
        judgement = judgement_of(
            find_project(Settings().home),
            promotion.model,
            promotion.version,
            promotion.verdict,
        )
        attach_page(judgement, make_page(judgement))
    # The version serves by now: nothing that is wrong with its files may look like a failure.
    except _UNREADABLE as error:
        fact = first_line(error).rstrip(".")
        say(
            f"The report of version {promotion.version} was not attached: {fact}. "
            f"`assay release report {promotion.version} --attach` tries again."
        )
