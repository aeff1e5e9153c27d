"""What has to be done before a base model can go, by what the ledger says of its versions."""

from collections.abc import Collection, Iterator

from operations.base_records import BaseRecords, VersionKey
from registry.ledger.state import ModelState


def list_advice(
    records: BaseRecords,
    hanging: Collection[VersionKey],
    trained_by: Collection[str],
) -> Iterator[str]:
    """Sentences, the most urgent first for each model.

    `hanging`: the versions that need the base. `trained_by`: files of models that train on it.
    """
    by_model: dict[str, set[str]] = {}
    for name, number in sorted(hanging):
        by_model.setdefault(name, set()).add(number)
    for name, numbers in by_model.items():
        model = records.model(name)
        yield from _advice_for(name, model, numbers)
    # Last: a nightly run takes nothing out of service.
    for file in trained_by:
        yield f"{file} trains on it: give it another base_model."


def _advice_for(
    name: str,
    model: ModelState,
    hanging: set[str],
) -> Iterator[str]:
    option = f"--model {name}"
    serving = model.current
    # Before what serves: a release that goes through would put the base into service again.
    if model.pending is not None and model.pending.release.version in hanging:
        version = model.pending.release.version
        yield (
            f"Version {version} of {name} is being released: `assay rollback {option}` ends that."
        )
    if serving is not None and serving.release.version in hanging:
        yield f"{_who_answers(name, model)} {_way_out(name, model, hanging)}"
    # A version that is revoked cannot be released again anyway.
    open_versions = sorted(
        (number for number in hanging if number not in model.revoked), key=int
    )
    if open_versions:
        yield (
            f"So that none of it is released again, once it serves no more: "
            f"`assay revoke N {option}` for {', '.join(open_versions)}."
        )


def _who_answers(
    name: str,
    model: ModelState,
) -> str:
    serving = model.current
    version = "" if serving is None else serving.release.version
    # There the adapter is out of service, and its base is not.
    if model.serves_base:
        return f"The base itself answers for {name}, beside version {version}."
    return f"Version {version} of {name} answers, which needs it."


def _way_out(
    name: str,
    model: ModelState,
    hanging: set[str],
) -> str:
    # A rollback is the quickest way out, where it leads to other weights.
    before = model.before
    if before is not None and before.release.version not in hanging:
        version = before.release.version
        return f"`assay rollback --model {name}` leads to version {version} on another base."
    return (
        "Neither a rollback nor `assay serve-base` leads away from it: train on another with "
        f"`assay run --base-model FOLDER --model {name}`, and promote that."
    )
