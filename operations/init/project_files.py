"""The files of a project: which there are, and what each says.

Most are the repository's own, which is such a project too: the wheel carries copies of them.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from core.errors import ParameterError, WorkspaceError
from core.files import digest_of_text
from core.project import SUBFOLDER
from core.value import Value
from flows.run.request import TEXT_METRICS, TEXT_TOKENS
from operations.originals import originals

_FILES = Path(__file__).with_name("files")
_AS_THEY_ARE = (
    "dvc.yaml",
    "data/champion/champion.json",
    "data/reserve/seen.json",
    "data/reserve/block.json",
    "data/expectations/rows.json",
    "data/raw/README.md",
    "data/.gitignore",
    "infra/retention.yaml",
    "people.yaml",
    "registry/policies/default.yaml",
    "registry/policies/solo.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
)
"""Files of the repository that every project begins with."""
WORKFLOWS = ("check", "train", "release")
"""What CI does: each change, each night, and when a person releases."""
_DIGESTS = "# Digest of each file as Assay wrote it: `assay upgrade` leaves alone what was edited."
_VERSION_LINE = re.compile(r"""(?m)^(\s*version *= *)(?:"[^"]*"|'[^']*')""")
_FILES_TABLE = re.compile(
    rf'(?m)^(?:{re.escape(_DIGESTS)}\n)?\[files\].*\n?(?:(?:"[^"\n]*" *= *"[^"\n]*" *)?\n)*'
)
_NO_FILE_NAME = re.compile(r"[^\w.-]+")
_PLACE = re.compile(r"@([A-Z_]+)@")


class Choice(Value):
    """What a person says of a new project; paths are as they will be written."""

    name: str
    folder: str
    """The project's folder in its repository; `.` where it is the repository's own."""
    model: str | None = None
    data: str | None = None
    licence: str = "LicenseRef-brought-by-user"
    base_model: str | None = None


def project_files(choice: Choice) -> dict[str, str]:
    """The text of each file, by its path from the project's folder."""
    texts = {name: _original(name) for name in _AS_THEY_ARE}
    places = {"NAME": _as_toml(choice.name), "VERSION": version("assay")}
    texts["params.yaml"] = with_settings(_original("params.yaml"), _settings(choice))
    texts["infra/prefect.yaml"] = _original("infra/prefect.yaml")
    digests = {name: digest_of_text(text) for name, text in texts.items()}
    marker = _filled("assay.toml", places)
    texts["assay.toml"] = marker_of(marker, places["VERSION"], digests)
    if choice.model is not None:
        texts[f"models/{choice.model}.yaml"] = model_file(choice)
    return texts


def marker_of(text: str, assay_version: str, digests: Mapping[str, str]) -> str:
    """The text of an `assay.toml` with another version and other digests of the files.

    Everything else stays, wherever it stands. `WorkspaceError` where the file is laid out so that
    this cannot be done.
    """
    lines = [f'"{name}" = "{digest}"' for name, digest in sorted(digests.items())]
    files = "\n".join([_DIGESTS, "[files]", *lines, ""])
    rest = _FILES_TABLE.sub("", text).rstrip("\n")
    rest = _VERSION_LINE.sub(rf'\g<1>"{assay_version}"', rest, count=1)
    made = f"{rest}\n\n{files}"
    _check_marker(text, made, {"version": assay_version}, digests)
    return made


def _check_marker(
    text: str, made: str, version_now: Mapping[str, str], digests: Mapping[str, str]
) -> None:
    """`WorkspaceError` where the new marker says anything but what was meant."""
    wanted = tomllib.loads(text)
    wanted |= {"assay": wanted["assay"] | version_now, "files": dict(digests)}
    try:
        is_as_meant = tomllib.loads(made) == wanted
    except tomllib.TOMLDecodeError:
        is_as_meant = False
    if not is_as_meant:
        raise WorkspaceError(
            "assay.toml is laid out otherwise than `assay init` wrote it. "
            "Give version a line of its own under [assay], and each file one under [files]."
        )


def with_missing_parameters(
    text: str, document: Mapping[str, Mapping[str, Any]]
) -> str:
    """Add to the text of a `params.yaml` what it lacks of a whole one, at the end of a section."""
    current = yaml.safe_load(text) or {}
    text = text if text.endswith("\n") or not text else f"{text}\n"
    for section, parameters in document.items():
        if section not in current:
            text += f"{section}:\n"
        missing = _missing(current, section, parameters)
        lines = "".join(f"  {name}: {_as_yaml(parameters[name])}\n" for name in missing)
        end = re.compile(rf"(?m)^{section}:.*\n(?:(?:[ #].*)?\n)*?(?=^\S|\Z)")
        text = end.sub(lambda found: found[0] + lines, text, count=1)  # noqa: B023
    return text


def missing_parameters(
    text: str, document: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """What the text of a `params.yaml` lacks of a whole one, by dotted name.

    `ParameterError` where it holds no sections.
    """
    try:
        current = yaml.safe_load(text) or {}
    # yaml raises a ValueError for the date 2024-13-45.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"params.yaml cannot be read as YAML ({type(error).__name__}). Correct it."
        ) from error
    if not isinstance(current, dict):
        raise ParameterError("params.yaml has no sections. Bring it back from git.")
    return {
        f"{section}.{name}": parameters[name]
        for section, parameters in document.items()
        for name in _missing(current, section, parameters)
    }


def _missing(
    current: Mapping[str, Any], section: str, parameters: Mapping[str, Any]
) -> list[str]:
    # A section without a line below it is null.
    there = current.get(section) or {}
    if not isinstance(there, dict):
        raise ParameterError(
            f"params.yaml has {section!r} as a value. Write it as a section."
        )
    return [name for name in parameters if name not in there]


def model_file(choice: Choice) -> str:
    """The file that says what one model is trained on."""
    places = {
        "MODEL": choice.model or "",
        "DATA": _as_yaml(choice.data),
        "LICENCE": _as_yaml(choice.licence),
        "BASE_MODEL": _as_yaml(choice.base_model),
    }
    return _filled("model.yaml", places)


def workflow_file(folder: str, kind: str) -> str:
    """Where a workflow of a project in that folder of its repository lies."""
    beginning = "assay"
    # A repository may hold a project in each of several folders.
    if folder not in (".", SUBFOLDER):
        name = _NO_FILE_NAME.sub("-", folder)
        beginning = f"assay-{name}"
    # Never `check.yml` alone: a repository has workflows of its own.
    return f".github/workflows/{beginning}-{kind}.yml"


def workflows(choice: Choice) -> dict[str, str]:
    """The text of each workflow by its path from the repository's own folder."""
    places = {
        "FOLDER": _as_yaml(choice.folder),
        "MODEL": choice.model or "",
    }
    texts = {}
    for kind in WORKFLOWS:
        path = workflow_file(choice.folder, kind)
        # Its own name for each project: those of one name would wait for each other.
        places["WORKFLOW"] = _as_yaml(Path(path).stem)
        text = _filled(f"{kind}.yml", places)
        # Without a model the command takes the only one there is.
        texts[path] = text.replace("run  --dry-run", "run --dry-run")
    return texts


def with_settings(text: str, settings: Mapping[str, Any]) -> str:
    """Set parameters in the text of a `params.yaml`, whose comments stay.

    `KeyError` for a parameter that has no line.
    """
    for dotted, setting in settings.items():
        section, name = dotted.split(".")
        line = re.compile(rf"(?ms)^({section}:\n(?:[ #].*?\n)*?  {name}: )[^\n]*")
        written = _as_yaml(setting)
        text, count = line.subn(lambda found: found[1] + written, text, count=1)  # noqa: B023
        if count == 0:
            raise KeyError(dotted)
    return text


def _settings(choice: Choice) -> dict[str, Any]:
    """What a project on own rows has otherwise than the demo."""
    settings: dict[str, Any] = {}
    if choice.data is not None:
        settings |= {
            "data.source": "file",
            "data.licence": choice.licence,
            "generation.max_new_tokens": TEXT_TOKENS,
            "score.metrics": list(TEXT_METRICS),
        }
    # So that `dvc repro` by hand, which knows no models, trains the same base.
    if choice.base_model is not None:
        settings |= {
            "base_model.source": "folder",
            "base_model.id": Path(choice.base_model).name,
            "base_model.path": choice.base_model,
        }
    return settings


def _original(name: str) -> str:
    """A file of the repository: the wheel's copy, or the one of the clone that is installed."""
    return (originals() / name).read_text(encoding="utf-8")


def _filled(name: str, places: Mapping[str, str]) -> str:
    text = (_FILES / name).read_text(encoding="utf-8")
    return _PLACE.sub(lambda found: places[found[1]], text)


def _as_toml(name: str) -> str:
    # The name of a folder may hold anything; TOML takes no control character, also escaped none.
    printable = "".join(each if each.isprintable() else "_" for each in name)
    return json.dumps(printable, ensure_ascii=False)


def _as_yaml(setting: Any) -> str:
    # JSON is YAML, and quotes whatever a path may hold.
    return json.dumps(setting, ensure_ascii=False)
