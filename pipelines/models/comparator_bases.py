"""On which base model champion and anchor answer: the run's own, or the one that they bring along.

    data/base_model               the candidate's
    data/champion/SYSTEM.base     that of champion or anchor, only where it is another one

Every adapter answers on the base and under the chat template of its own training: on another one
its scores would say nothing of what is served.
"""

from dataclasses import dataclass
from pathlib import Path

from core.errors import DamagedFile, UnusableBaseModel
from core.files import digest_of_files
from pipelines import layout
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.evidence import Adapter, System


@dataclass(frozen=True)
class PlacedBase:
    """A base model on this machine, with the folder of its weights."""

    manifest: BaseModelManifest
    folder: Path
    template: str | None
    """The chat template that it is asked with; None: completion mode."""

    def is_of(
        self,
        adapter: Adapter,
    ) -> bool:
        """Whether the adapter was trained on this base, under this template."""
        return is_base_of(adapter, self.manifest)


def is_base_of(
    adapter: Adapter,
    manifest: BaseModelManifest,
) -> bool:
    """Whether an adapter was trained on a base, under its template."""
    # Under another template the same weights read another text.
    trained_on = (adapter.base_digest, adapter.chat_template_sha256)
    return trained_on == (manifest.digest, manifest.chat_template_sha256)


def place_of(system: System, champions: Path = layout.CHAMPION) -> Path:
    """The folder of a comparator's own base, as `data/base_model` is that of the candidate."""
    return champions / f"{system}.base"


def own_base(home: Path) -> PlacedBase:
    """The run's own base; errors as of `read_base_model` and `locate_base_model`."""
    manifest, template = read_base_model()
    return PlacedBase(
        manifest,
        locate_base_model(manifest, home),
        template,
    )


def base_of(
    system: System,
    adapter: Adapter,
    own: PlacedBase,
    home: Path,
) -> PlacedBase:
    """The base that a comparator answers on, with every byte of its weights checked.

    `DamagedFile` where what lies beside the comparator is not that base, `UnusableBaseModel` where
    its weights are not on this machine.
    """
    # Nothing is placed for it then: both answer on the very same weights.
    if own.is_of(adapter):
        return own
    manifest, template = read_base_model(place_of(system))
    # A manifest that names fewer files would have fewer bytes checked.
    makes_its_digest = digest_of_files(manifest.files) == manifest.digest
    if not makes_its_digest or not is_base_of(adapter, manifest):
        raise DamagedFile(
            f"{place_of(system)} does not hold the base model that the {system} was trained on "
            f"({adapter.base_id}, {adapter.base_digest[:12]}). Run again."
        )
    return PlacedBase(
        manifest,
        _locate(
            system,
            manifest,
            home,
        ),
        template,
    )


def _locate(
    system: System,
    manifest: BaseModelManifest,
    home: Path,
) -> Path:
    try:
        return locate_base_model(manifest, home)
    except UnusableBaseModel as error:
        raise UnusableBaseModel(describe_missing(system, manifest)) from error


def describe_missing(
    system: System,
    manifest: BaseModelManifest,
) -> str:
    """Say which base is missing, and how to bring it."""
    link = f".assay/base-models/{manifest.digest}"
    return (
        f"The {system} was trained on {manifest.id} ({manifest.digest[:12]}), whose weights are "
        "not on this machine, so that it cannot answer. "
        f"Bring that folder back and link it: `ln -s FOLDER {link}`."
    )
