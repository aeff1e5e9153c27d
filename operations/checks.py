"""What `assay doctor` checks: each check gives its findings, and what to do about a problem."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from core.errors import LedgerError, ServingError, WorkspaceError
from core.extras import PARTS
from core.git import git as run_git
from core.home import describe_openness
from core.locks import up_lock
from core.loopback import LOOPBACK, ask
from core.project import Project
from core.supported import describe_unsupported_python, describe_untried_system
from core.system_record import SystemRecord, read_record
from core.value import Value
from operations.services import Ports
from pipelines.models.resources import measure_free_memory
from registry.mlflow.accounts import passwords_file, read_passwords
from registry.mlflow.moved import settle
from registry.mlflow.own_database import own_database

if TYPE_CHECKING:
    from registry.ledger.entries import PublicKey, Release

# Bytes for a few runs.
LEAST_DISK = 5_000_000_000
# Bytes for the demo's training and the services.
LEAST_MEMORY = 3_000_000_000
# Seconds by which clocks may differ.
SECONDS_OFF = 5.0
# `name[extra]==version ; marker`, at the beginning of a line.
_LOCKED_PACKAGE = re.compile(
    r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s\\;]+)(?: *; *([^\\\n]+))?", re.MULTILINE
)
# Of each kind: a line of hundreds would be read by nobody.
_MOST_NAMED = 5
_SHOWN_OF_A_KEY = 12
_GIGABYTE = 1e9
_GROUP_AND_OTHERS = 0o077
_PERMISSIONS = 0o777
_THE_LEDGER = "the ledger"


class Check(Value):
    """One finding."""

    name: str
    is_ok: bool
    text: str


def python(_: Project) -> Iterator[Check]:
    """Check the interpreter against those that the lock is for."""
    problem = describe_unsupported_python()
    version_here = sys.version.split()[0]
    is_ok = problem is None
    text = problem or version_here
    yield Check(name="python", is_ok=is_ok, text=text)


def system(_: Project) -> Iterator[Check]:
    """Check that this is Linux."""
    problem = describe_untried_system()
    is_ok = problem is None
    text = problem or "Linux"
    yield Check(name="system", is_ok=is_ok, text=text)


def libraries(project: Project) -> Iterator[Check]:
    """Check what is installed against requirements.lock, as far as this Python needs it.

    Elsewhere against what the installed Assay asks for. A build tag (`+cpu`) makes no difference.
    """
    lock = project.root / "requirements.lock"
    # A lock of the person's own says nothing of Assay: its own has the script beside it that
    # writes it.
    is_of_assay = (project.root / "infra/lock.sh").is_file()
    if not (is_of_assay and lock.is_file()):
        yield _check_requirements()
        return
    locked = locked_for_this_python(lock)
    installed = {name: _installed_version(name) for name, _ in locked}
    different = [
        f"{name} {installed[name]}, locked {locked_version}"
        for name, locked_version in locked
        if installed[name] not in (None, locked_version)
    ]
    missing = [f"{name} is missing" for name, _ in locked if installed[name] is None]
    problems = different[:_MOST_NAMED] + missing[:_MOST_NAMED]
    text = f"{len(locked)} as locked"
    if problems:
        text = (
            f"{'; '.join(problems)}. Run `touch requirements.lock && make .venv/ready`."
        )
    yield Check(name="libraries", is_ok=not problems, text=text)


def _check_requirements() -> Check:
    """Hold each library against the version that the installed Assay asks for."""
    wanted = [Requirement(text) for text in requires("assay") or ()]
    needed = [each for each in wanted if _is_needed(each)]
    problems = []
    for each in needed:
        found = _installed_version(each.name)
        if found is None:
            problems.append(f"{each.name} is missing")
        elif not each.specifier.contains(found, prereleases=True):
            problems.append(f"{each.name} {found}, wanted {each.specifier}")
    text = f"{len(needed)} as this Assay asks for"
    if problems:
        text = f"{'; '.join(problems[:_MOST_NAMED])}. Install `assay[all]` again."
    return Check(name="libraries", is_ok=not problems, text=text)


def _is_needed(requirement: Requirement) -> bool:
    """Whether a project needs it: training, serving and flows are extras of Assay's."""
    if requirement.marker is None:
        return True
    marker = requirement.marker
    return any(marker.evaluate({"extra": extra}) for extra in ("", *PARTS))


def git(project: Project) -> Iterator[Check]:
    """Check that the project is a git repository: runs are pinned as commits."""
    try:
        run_git(project.root, "rev-parse", "--git-dir")
    except WorkspaceError as error:
        yield Check(name="git", is_ok=False, text=str(error))
        return
    yield Check(name="git", is_ok=True, text="there")


def home(project: Project) -> Iterator[Check]:
    """Check that nobody else may read or write in the home."""
    folder = project.home
    # Before the first run there is nothing that anybody could read.
    if not folder.is_dir():
        text = f"{folder} does not exist yet; `assay run` and `assay up` make it"
        yield Check(name="home", is_ok=True, text=text)
        return
    problem = describe_openness(folder)
    yield Check(name="home", is_ok=problem is None, text=problem or str(folder))


def place(project: Project) -> Iterator[Check]:
    """Check that the home's records name files in this home, also after it was moved or copied."""
    # Repairs what it can, and says so; it raises where it cannot.
    own_database(project.home)
    moved = settle(project.home, system=up_lock(project.home))
    text = moved or "its records name files of this home alone"
    yield Check(name="place", is_ok=True, text=text)


def disk(project: Project) -> Iterator[Check]:
    """Check for disk space for a few runs."""
    candidates = (project.home, *project.home.parents)
    # The home may not exist yet: the disk is that of its nearest folder.
    folder = next(candidate for candidate in candidates if candidate.is_dir())
    free = shutil.disk_usage(folder).free
    is_ok = free >= LEAST_DISK
    text = f"{free / _GIGABYTE:.1f} GB free at {folder}"
    if not is_ok:
        text += (
            f", {LEAST_DISK / _GIGABYTE:.0f} GB are wanted. "
            "`assay gc` frees some; ASSAY_HOME moves it elsewhere."
        )
    yield Check(name="disk", is_ok=is_ok, text=text)


def memory(_: Project) -> Iterator[Check]:
    """Check for the memory that the demo's training and the services need."""
    free = measure_free_memory()
    is_ok = free >= LEAST_MEMORY
    text = f"{free / _GIGABYTE:.1f} GB free"
    if not is_ok:
        text += f", {LEAST_MEMORY / _GIGABYTE:.0f} GB are wanted. Close other programs."
    yield Check(name="memory", is_ok=is_ok, text=text)


def dvc_cache(project: Project) -> Iterator[Check]:
    """Check that runs can write to DVC's cache; the first run makes it."""
    cache = project.home / "cache"
    if not cache.exists():
        text = "not there yet; the first run makes it"
        yield Check(name="DVC cache", is_ok=True, text=text)
        return
    is_ok = cache.is_dir() and _is_writable(cache)
    text = str(cache)
    if not is_ok:
        text = f"{cache} cannot be written. Give it back to the user that runs Assay."
    yield Check(name="DVC cache", is_ok=is_ok, text=text)


def secrets(project: Project) -> Iterator[Check]:
    """Check that only their owner can read keys and passwords."""
    candidates = (passwords_file(project.home), *_keys(project.home))
    files = [path for path in candidates if path.is_file()]
    exposed = [path for path in files if path.stat().st_mode & _GROUP_AND_OTHERS]
    text = f"{len(files)} files, readable by their owner alone"
    if exposed:
        path = exposed[0]
        mode = path.stat().st_mode & _PERMISSIONS
        text = (
            f"others may read {path} (mode {mode:o}). "
            f"Do: chmod 600 {path}, then change it."
        )
    yield Check(name="secrets", is_ok=not exposed, text=text)
    if passwords_file(project.home).is_file():
        # Raises where the file cannot be read, which the doctor reports.
        read_passwords(project.home)


def key(project: Project) -> Iterator[Check]:
    """Check that the ledger trusts this machine's keys."""
    from operations.keys import describe_distrust, own_key_ids
    from registry.ledger.keys import key_file
    from registry.ledger.ledger import is_still_to_be_made, read_ledger

    path = key_file(project.home)
    # A key is made with the ledger; without one nothing can be entered.
    if not path.exists():
        if is_still_to_be_made(project.home):
            yield Check(name="key", is_ok=True, text="none yet")
            return
        text = _describe_missing_key(project)
        yield Check(name="key", is_ok=False, text=text)
        return
    own = own_key_ids(project.home)
    ledger_state = read_ledger(project.home).state()
    for key_id, role in own.items():
        shown = f"{role} {key_id[:_SHOWN_OF_A_KEY]}"
        distrust = describe_distrust(ledger_state, key_id)
        text = f"{shown}, trusted by the ledger"
        if distrust:
            text = (
                f"{shown} {distrust}. Put the right {key_file(project.home, role)} back from a "
                f"backup, or make another one: `assay audit rotate-key --role {role}`."
            )
        yield Check(name="key", is_ok=not distrust, text=text)


def ledger(project: Project) -> Iterator[Check]:
    """Verify every entry, and that nothing is missing that this home remembers."""
    from registry.ledger.audit import find_doubts
    from registry.ledger.ledger import is_still_to_be_made, read_ledger

    # A new home has no ledger, which is no problem.
    if is_still_to_be_made(project.home):
        text = "not there yet; `assay up` opens it"
        yield Check(name="ledger", is_ok=True, text=text)
        return
    current = read_ledger(project.home)
    ledger_state = current.state()
    sentences = find_doubts(project.home, current, ledger_state)
    for sentence in sentences:
        yield Check(name="ledger", is_ok=False, text=sentence)
    if not sentences:
        text = f"verified up to entry {ledger_state.head.generation}"
        yield Check(name="ledger", is_ok=True, text=text)


def witness(project: Project) -> Iterator[Check]:
    """Check that the witness answers, where one is configured."""
    from registry.ledger.heads import trusted_keys
    from registry.ledger.witness import witness as configured_witness

    remembers = configured_witness()
    if remembers is None:
        text = (
            "none: ASSAY_WITNESS names a place that another account owns, "
            "so that a lost end of the ledger shows in any case"
        )
        yield Check(name="witness", is_ok=True, text=text)
        return
    # Only heads that this machine's own key sealed count here.
    sealed = remembers.read_furthest(trusted_keys(project.home, None))
    generation = 0 if sealed is None else sealed.record.head.generation
    text = f"{remembers.name} remembers entry {generation}"
    yield Check(name="witness", is_ok=True, text=text)


def packages(project: Project) -> Iterator[Check]:
    """Check that the packages of what serves are what was released."""
    from flows.package_repair import package_fault
    from registry.mlflow.package_folder import list_set_aside

    releases = _served_releases(project)
    for release, signer in releases:
        name = f"{release.model} version {release.version}"
        fault = package_fault(project.home, release, signer)
        text = f"{name}: {fault}" if fault else f"{name} is what was released"
        yield Check(name="packages", is_ok=not fault, text=text)
    if not releases:
        yield Check(name="packages", is_ok=True, text="nothing is released")
    # No problem any more, and evidence of one: somebody should look before it is deleted.
    for folder in list_set_aside(project.home / "packages"):
        text = f"a damaged one was put aside: {folder}. Look at it, then delete it."
        yield Check(name="packages", is_ok=True, text=text)


def clock(project: Project) -> Iterator[Check]:
    """Check that this machine's clock agrees with the servers' and is not behind the ledger."""
    now = datetime.now(UTC)
    for source, time_there in _clocks(project):
        seconds_behind = (time_there - now).total_seconds()
        is_ledger = source == _THE_LEDGER
        # The ledger's last entry may be of any time before now.
        distance = seconds_behind if is_ledger else abs(seconds_behind)
        is_ok = distance <= SECONDS_OFF
        text = f"{'not behind' if is_ledger else 'agrees with'} {source}"
        if not is_ok:
            direction = "behind" if seconds_behind > 0 else "ahead of"
            text = f"{abs(seconds_behind):.0f} s {direction} {source}. Set the clock (NTP)."
        yield Check(name="clock", is_ok=is_ok, text=text)


def ports(project: Project) -> Iterator[Check]:
    """Check that the default ports are free, or used by this home's own services."""
    record = _running_record(project)
    own_ports = {service.port for service in record.services} if record else set()
    used = sorted(port for port in own_ports if port)
    # While the services run, their own servers use the ports.
    if not used:
        yield from (_check_port(option, port) for option, port in Ports().named())
    for port in used:
        yield Check(name="ports", is_ok=True, text=f"{port} is ours")


def servers(project: Project) -> Iterator[Check]:
    """Check that what `assay up` started answers."""
    record = _running_record(project)
    if record is None:
        yield Check(name="servers", is_ok=True, text="`assay up` does not run")
        return
    for service in record.services:
        # The record may be a few seconds old, so the service itself is asked.
        is_ok = service.state in ("ready", "done") and service.answers()
        text = f"{service.name} answers"
        if not is_ok:
            log = project.home / "logs" / f"{service.name}.log"
            text = (
                f"{service.name} does not answer ({service.detail or service.state}). "
                f"Look at {log}; `assay down`, then `assay up`, starts everything again."
            )
        yield Check(name="servers", is_ok=is_ok, text=text)


def team_servers(_: Project) -> Iterator[Check]:
    """Check MLflow, Prefect and the ledger's database, each where it is configured."""
    from flows.servers import examine_servers

    findings = examine_servers()
    for finding in findings:
        yield Check(
            name=finding.name,
            is_ok=finding.is_ok,
            text=finding.text,
        )


def locked_for_this_python(lock: Path) -> list[tuple[str, str]]:
    """Names and versions in a lock, without those that are for another Python or system."""
    from packaging.markers import Marker

    packages = _LOCKED_PACKAGE.findall(lock.read_text(encoding="utf-8"))
    return [
        (name, version)
        for name, version, marker in packages
        if not marker or Marker(marker).evaluate()
    ]


def _installed_version(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _keys(folder: Path) -> list[Path]:
    """Give the key files; empty ones are locks and marks, which hold no secret."""
    paths = (folder / "keys").glob("*")
    sizes = {path: path.stat().st_size for path in sorted(paths)}
    return [path for path, size in sizes.items() if size > 0]


def _is_writable(folder: Path) -> bool:
    needed = os.W_OK | os.X_OK
    return os.access(folder, needed)


def _describe_missing_key(project: Project) -> str:
    folder = project.home / "keys"
    return (
        f"{folder} holds no key, so nothing can be entered. Put it back from a backup, "
        "or from the machine that shares the ledger."
    )


def _served_releases(
    project: Project,
) -> tuple[tuple["Release", "PublicKey | None"], ...]:
    from flows.package_repair import releases_needed, signer_of
    from registry.ledger.ledger import read_ledger, was_ever_opened

    with suppress(LedgerError):  # the check of the ledger reports it
        if was_ever_opened(project.home):
            ledger = read_ledger(project.home)
            ledger_state = ledger.state()
            found = []
            for each in releases_needed(ledger_state):
                signer = signer_of(ledger_state, each)
                found.append((each, signer))
            return tuple(found)
    return ()


def _running_record(project: Project) -> SystemRecord | None:
    record = read_record(project.home)
    if record is None or not record.is_running():
        return None
    return record


def _check_port(option: str, port: int) -> Check:
    from serving.listen import open_socket

    try:
        # Listening is the only sure test, and the socket is closed again at once.
        with open_socket(LOOPBACK, port):
            return Check(name="ports", is_ok=True, text=f"{port} is free")
    except ServingError:
        text = (
            f"{port} is taken by another program. "
            f"Give `assay up` another with {option}."
        )
        return Check(name="ports", is_ok=False, text=text)


def _clocks(project: Project) -> Iterator[tuple[str, datetime]]:
    from registry.ledger.ledger import read_ledger

    with suppress(LedgerError):  # the check of the ledger reports it
        current = read_ledger(project.home)
        last_entry = current.state().at
        yield _THE_LEDGER, last_entry
    record = _running_record(project)
    for service in record.services if record else ():
        if service.url is None:
            continue
        date = _date_of(service.url)
        if date is not None:
            yield service.name, date


def _date_of(url: str) -> datetime | None:
    answer = ask(url)
    if answer is None:
        return None
    try:
        return parsedate_to_datetime(answer.headers["Date"])
    except (ValueError, TypeError):
        return None
