"""Where a base model lies: `HOME/base-models/DIGEST` links to it, and `data/base_model` names it.

Whoever uses the weights asks here, and each time every byte is compared with the manifest.
"""

import os
from pathlib import Path

from core.errors import DamagedFile, UnusableBaseModel
from core.files import sha256_of
from pipelines import layout
from pipelines.values.base_manifest import BaseModelManifest


def locate_base_model(manifest: BaseModelManifest, home: Path) -> Path:
    """Return the folder of a base model once its bytes hash to the manifest.

    `UnusableBaseModel` where it is not on this machine, `DamagedFile` where bytes differ.
    """
    folder = home / "base-models" / manifest.digest
    if not folder.is_dir():
        raise UnusableBaseModel(
            f"The base model {manifest.id} is not on this machine. "
            "Run `assay stage base_model`."
        )
    # Every byte, at each stage: weights are what all later numbers depend on.
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise DamagedFile(
                f"{path} is not the file that the manifest of {manifest.id} records. "
                "Bring it back."
            )
    return folder


def read_base_model(
    folder: Path = layout.BASE_MODEL,
) -> tuple[BaseModelManifest, str | None]:
    """Read what `main` wrote: the manifest, and the chat template or None for completion mode.

    `DamagedFile` where the template is not the one that the manifest records.
    """
    manifest = BaseModelManifest.read(folder / "manifest.json")
    if manifest.chat_template_sha256 is None:
        return manifest, None
    path = folder / "chat_template.jinja"
    if not path.is_file() or sha256_of(path) != manifest.chat_template_sha256:
        raise DamagedFile(
            f"{path} is not the chat template that the manifest records. "
            "Run `dvc repro base_model`."
        )
    return manifest, path.read_text(encoding="utf-8")


def link_by_digest(home: Path, digest: str, folder: Path) -> None:
    """Link `HOME/base-models/DIGEST` to the folder, so that `locate_base_model` finds it."""
    link = home / "base-models" / digest
    link.parent.mkdir(parents=True, exist_ok=True)
    target = folder.resolve()
    # A neighbour is linked by its name: the link then holds in a home that is moved.
    if target.parent == link.parent.resolve():
        target = Path(target.name)
    put_link(link, target)


def put_link(link: Path, target: Path) -> None:
    """Put a link in place in one step: a concurrent reader sees the old one or the new one."""
    # Beside the link, since only a rename within one disk is one step.
    name = f".{link.name}.{os.getpid()}"
    temporary = link.with_name(name)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
