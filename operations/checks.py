"""What `assay doctor` looks at. Each check gives what it found, and what to do where that is wrong."""

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import LedgerError, ServingError, WorkspaceError
from core.git import git as run_git
from core.home import openness
from core.locks import lock_file
from core.loopback import HERE, ask
from core.project import Project
from core.system_record import read_record
from core.value import Value
from operations.services import Ports
from pipelines.models.resources import free_memory
from registry.mlflow.accounts import passwords, passwords_file
from registry.mlflow.moved import settle

if TYPE_CHECKING:
    from registry.ledger.entries import Release

LEAST_DISK = 5_000_000_000
LEAST_MEMORY = 3_000_000_000
SECONDS_OFF = 5.0


class Check(Value):
    """One thing that was looked at."""

    name: str
    is_ok: bool
    text: str


def python(_: Project) -> Iterator[Check]:
    """The interpreter that the lock is for."""
    here = sys.version.split()[0]
    is_ok = sys.version_info[:2] == (3, 11)
    yield Check(
        name="python",
        is_ok=is_ok,
        text=here
        if is_ok
        else f"{here}, and the lock is for 3.11. Make .venv with python3.11.",
    )


def libraries(project: Project) -> Iterator[Check]:
    """What is installed against requirements.lock; a build tag (`+cpu`) does not count, nor what is not installed at all of extras."""
    locked = re.findall(
        r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^\s\\;]+)",
        (project.root / "requirements.lock").read_text(),
        re.MULTILINE,
    )
    found = {name: _installed(name) for name, _ in locked}
    other = [
        f"{name} {found[name]}, locked {wanted}"
        for name, wanted in locked
        if found[name] not in (None, wanted)
    ]
    missing = [name for name, _ in locked if found[name] is None]
    text = f"{len(locked)} as locked"
    if other or missing:
        text = f"{'; '.join([*other[:5], *(f'{name} is missing' for name in missing[:5])])}. Run infra/setup.sh, or `make clean test`."
    yield Check(name="libraries", is_ok=not other and not missing, text=text)


def git(project: Project) -> Iterator[Check]:
    """Runs are pinned as commits."""
    try:
        run_git(project.root, "rev-parse", "--git-dir")
    except WorkspaceError as error:
        yield Check(name="git", is_ok=False, text=str(error))
        return
    yield Check(name="git", is_ok=True, text="there")


def home(project: Project) -> Iterator[Check]:
    """Nobody else may read or write where Assay keeps things."""
    folder = project.home
    if not folder.is_dir():
        yield Check(
            name="home",
            is_ok=True,
            text=f"{folder} does not exist yet; `assay run` and `assay up` make it",
        )
        return
    others = openness(folder)
    yield Check(name="home", is_ok=others is None, text=others or str(folder))


def place(project: Project) -> Iterator[Check]:
    """What the home's records name lies in this home, also after it was moved or copied."""
    moved = settle(project.home, system=lock_file(project.home))
    yield Check(
        name="place",
        is_ok=True,
        text=moved or "its records name files of this home alone",
    )


def disk(project: Project) -> Iterator[Check]:
    """Room for a few runs."""
    folder = next(
        each for each in (project.home, *project.home.parents) if each.is_dir()
    )
    free = shutil.disk_usage(folder).free
    is_ok = free >= LEAST_DISK
    advice = (
        ""
        if is_ok
        else f", {LEAST_DISK / 1e9:.0f} GB are wanted. `assay gc` frees some; ASSAY_HOME moves it elsewhere."
    )
    yield Check(
        name="disk", is_ok=is_ok, text=f"{free / 1e9:.1f} GB free at {folder}{advice}"
    )


def memory(_: Project) -> Iterator[Check]:
    """What a training of the demo and the services take."""
    free = free_memory()
    is_ok = free >= LEAST_MEMORY
    advice = (
        ""
        if is_ok
        else f", {LEAST_MEMORY / 1e9:.0f} GB are wanted. Close other programs."
    )
    yield Check(name="memory", is_ok=is_ok, text=f"{free / 1e9:.1f} GB free{advice}")


def dvc_cache(project: Project) -> Iterator[Check]:
    """Stages are taken from it; it is made by the first run."""
    cache = project.home / "cache"
    if not cache.exists():
        yield Check(
            name="DVC cache", is_ok=True, text="not there yet; the first run makes it"
        )
        return
    is_ok = cache.is_dir() and _can_write(cache)
    wrong = f"{cache} cannot be written. Give it back to the user that runs Assay."
    yield Check(name="DVC cache", is_ok=is_ok, text=str(cache) if is_ok else wrong)


def secrets(project: Project) -> Iterator[Check]:
    """Files that nobody else may read."""
    there = [
        each
        for each in (passwords_file(project.home), *_keys(project.home))
        if each.is_file()
    ]
    open_ones = [each for each in there if each.stat().st_mode & 0o077]
    text = f"{len(there)} files, readable by their owner alone"
    if open_ones:
        text = f"others may read {open_ones[0]} (mode {open_ones[0].stat().st_mode & 0o777:o}). Do: chmod 600 {open_ones[0]}, then change it."
    yield Check(name="secrets", is_ok=not open_ones, text=text)
    if passwords_file(project.home).is_file():
        passwords(project.home)


def key(project: Project) -> Iterator[Check]:
    """This machine's key is one that the ledger trusts."""
    from registry.ledger.keys import key_file, load_key
    from registry.ledger.ledger import ever_was, read_ledger

    if not key_file(project.home).exists():
        is_needed = ever_was(project.home)
        yield Check(
            name="key",
            is_ok=not is_needed,
            text=_no_key(project) if is_needed else "none yet",
        )
        return
    own = load_key(project.home).public.key_id
    trusted = read_ledger(project.home).state().key(own)
    text = f"{own[:12]}, trusted by the ledger"
    if trusted is None:
        text = f"{own[:12]} is not one that the ledger trusts. Put the right {key_file(project.home)} back from a backup."
    yield Check(name="key", is_ok=trusted is not None, text=text)


def ledger(project: Project) -> Iterator[Check]:
    """Every entry verified, and nothing missing that this home remembers."""
    from registry.ledger.audit import doubts
    from registry.ledger.ledger import ever_was, read_ledger

    if not ever_was(project.home):
        yield Check(
            name="ledger", is_ok=True, text="not there yet; `assay up` opens it"
        )
        return
    there = read_ledger(project.home)
    ledger_state = there.state()
    wrong = doubts(project.home, there, ledger_state)
    for sentence in wrong:
        yield Check(name="ledger", is_ok=False, text=sentence)
    if not wrong:
        yield Check(
            name="ledger",
            is_ok=True,
            text=f"verified up to entry {ledger_state.head.generation}",
        )


def witness(project: Project) -> Iterator[Check]:
    """Who else remembers the ledger, where somebody is named."""
    from registry.ledger.heads import trusted_keys
    from registry.ledger.witness import witness as named

    there = named()
    if there is None:
        text = "none: ASSAY_WITNESS names a place that another account owns, so that a lost end of the ledger shows in any case"
        yield Check(name="witness", is_ok=True, text=text)
        return
    found = there.furthest(trusted_keys(project.home, None))
    yield Check(
        name="witness",
        is_ok=True,
        text=f"{there.name} remembers entry {0 if found is None else found.record.head.generation}",
    )


def packages(project: Project) -> Iterator[Check]:
    """On this machine those of what serves are what was released."""
    from flows.package_repair import package_fault, releases_needed
    from registry.ledger.ledger import ever_was, read_ledger
    from registry.mlflow.package_folder import all_aside

    needed: tuple[Release, ...] = ()
    with suppress(LedgerError):  # the check of the ledger says it
        needed = (
            releases_needed(read_ledger(project.home).state())
            if ever_was(project.home)
            else ()
        )
    for release in needed:
        name, fault = (
            f"{release.model} version {release.version}",
            package_fault(project.home, release),
        )
        yield Check(
            name="packages",
            is_ok=not fault,
            text=f"{name}: {fault}" if fault else f"{name} is what was released",
        )
    if not needed:
        yield Check(name="packages", is_ok=True, text="nothing is released")
    for folder in all_aside(project.home / "packages"):
        yield Check(
            name="packages",
            is_ok=True,
            text=f"a damaged one was put aside: {folder}. Look at it, then delete it.",
        )


def clock(project: Project) -> Iterator[Check]:
    """Not behind the ledger's last entry, and that of the servers."""
    now = datetime.now(UTC)
    for what, there in _clocks(project):
        behind = (there - now).total_seconds()
        is_ok = (
            behind <= SECONDS_OFF
            if what == "the ledger"
            else abs(behind) <= SECONDS_OFF
        )
        fact = "agrees with" if what != "the ledger" else "not behind"
        wrong = f"{abs(behind):.0f} s {'behind' if behind > 0 else 'ahead of'} {what}. Set the clock (NTP)."
        yield Check(
            name="clock", is_ok=is_ok, text=f"{fact} {what}" if is_ok else wrong
        )


def ports(project: Project) -> Iterator[Check]:
    """Free, or ours."""
    from serving.listen import open_socket

    record = read_record(project.home)
    ours = (
        {each.port for each in record.services if each.port}
        if record is not None and record.is_running()
        else set()
    )
    for option, port in () if ours else Ports().named():
        try:
            with open_socket(HERE, port):
                yield Check(name="ports", is_ok=True, text=f"{port} is free")
        except ServingError:
            yield Check(
                name="ports",
                is_ok=False,
                text=f"{port} is taken by another program. Give `assay up` another with {option}.",
            )
    for port in sorted(ours):
        yield Check(name="ports", is_ok=True, text=f"{port} is ours")


def servers(project: Project) -> Iterator[Check]:
    """What `assay up` started answers."""
    record = read_record(project.home)
    if record is None or not record.is_running():
        yield Check(name="servers", is_ok=True, text="`assay up` does not run")
        return
    for each in record.services:
        is_ok = each.state in ("ready", "done") and each.answers()
        log = project.home / "logs" / f"{each.name}.log"
        wrong = f"{each.name} does not answer ({each.detail or each.state}). Look at {log}; `assay down`, then `assay up`, starts all anew."
        yield Check(
            name="servers", is_ok=is_ok, text=f"{each.name} answers" if is_ok else wrong
        )


def _installed(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _keys(folder: Path) -> list[Path]:
    """Empty files, locks and marks, give nothing away."""
    return [
        each for each in sorted((folder / "keys").glob("*")) if each.stat().st_size > 0
    ]


def _can_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _no_key(project: Project) -> str:
    return f"{project.home / 'keys'} holds no key, so nothing can be entered. Put it back from a backup."


def _clocks(project: Project) -> Iterator[tuple[str, datetime]]:
    from registry.ledger.ledger import read_ledger

    with suppress(LedgerError):  # the check of the ledger says it
        yield "the ledger", read_ledger(project.home).state().at
    record = read_record(project.home)
    for each in record.services if record is not None and record.is_running() else ():
        if each.url is not None and (date := _date_of(each.url)) is not None:
            yield each.name, date


def _date_of(url: str) -> datetime | None:
    answer = ask(url)
    try:
        return None if answer is None else parsedate_to_datetime(answer.headers["Date"])
    except (ValueError, TypeError):
        return None
