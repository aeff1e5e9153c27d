"""Whether the MLflow that is used has admission for each model: for `assay doctor` and `status`."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from core.environment import mlflow_address
from core.errors import AssayError
from core.project import Project
from flows.admission_there import AdmissionThere
from flows.run.model_files import model_names
from operations.checks import Check
from registry.ledger.ledger import read_ledger

_MOST = 20
"""Models that are asked about: each is a question to the server."""


def admission(project: Project) -> Iterator[Check]:
    """Say where `release` is moved unasked; nothing where no server is configured."""
    if mlflow_address() is None:
        return
    models = _models_of(project)
    sentences = sentences_about(project, models)
    # No defect of this machine: what serves follows the ledger all the same.
    for sentence in sentences:
        yield Check(name="admission", is_ok=True, text=sentence)
    if models and not sentences:
        yield Check(
            name="admission", is_ok=True, text="MLflow asks before `release` moves"
        )


def sentences_about(project: Project, models: Iterable[str]) -> tuple[str, ...]:
    """One sentence for all models of which the server says that it has no admission."""
    there = AdmissionThere(project)
    missing: dict[str, list[str]] = {}
    for model in sorted(models)[:_MOST]:
        sentence = there.sentence(model)
        if sentence:
            missing.setdefault(sentence, []).append(model)
    return tuple(
        f"{', '.join(names)}: {sentence}" for sentence, names in missing.items()
    )


def _models_of(project: Project) -> set[str]:
    """The models of the project's files and of its ledger."""
    models = set(model_names(project.root))
    # Without a ledger nothing was released yet.
    with suppress(AssayError):
        ledger_state = read_ledger(project.home).state()
        registered = ledger_state.registrations.values()
        models |= {each.made.model for each in registered}
    return models
