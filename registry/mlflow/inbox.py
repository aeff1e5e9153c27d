"""Transfers in the MLflow of the installation that is to receive them: runs of the sender's own.

An account that sends needs no right on Assay's records there. It writes a run into an experiment of
its own; the service account looks at it and answers by a tag that nobody else can write. Nothing is
registered before the receiver has verified it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from core.errors import DamagedFile
from core.value import Value
from registry.mlflow.connection import Connection, each_of_pages
from registry.mlflow.logins import Login
from registry.mlflow.places import check_own_place

if TYPE_CHECKING:
    from mlflow.entities import Run

_EXPERIMENTS = "assay-transfers-"
TRANSFER = "transfer.sha256"
"""On a transfer's run: the digest of its record, by which the sender finds it again."""
ANSWER = "assay.transfer"
"""On a transfer's run: what the receiver did with it. Accounts of people cannot write it."""
_PAGE = 100
_LONGEST_ANSWER = 4000


class TransferAnswer(Value):
    """What became of a transfer."""

    version: str | None = Field(
        default=None, description="Its number there; None: it was refused."
    )
    text: str = Field(description="The receiver's sentence.")


class Inbox:
    """The transfers of one MLflow. Every call may raise `RegistryError`."""

    def __init__(self, uri: str, locks: Path) -> None:
        # As all of MLflow is asked: a bounded number of times, with jitter.
        self._mlflow = Connection(
            uri,
            locks,
        )

    # The sender's side.

    def send(self, sender: str, digest: str, folder: Path) -> str:
        """Upload a transfer, and give its run; one that is there whole already is that one."""
        # One for each sender: whoever makes an experiment is the only one who may write to it.
        name = f"{_EXPERIMENTS}{sender}"
        experiment = self._mlflow.attempt(
            lambda: self._mlflow.experiment(name),
        )
        earlier = self._find(experiment, digest)
        if earlier is not None:
            return earlier
        tags = {TRANSFER: digest}
        title = f"transfer {digest[:12]}"
        run = self._mlflow.ask(
            lambda mlflow: mlflow.create_run(
                experiment,
                tags=tags,
                run_name=title,
            )
        )
        run_id = str(run.info.run_id)
        local = str(folder)
        self._mlflow.ask(
            lambda mlflow: mlflow.log_artifacts(
                run_id,
                local,
            )
        )
        # Ended last: the receiver looks at none that is still being written.
        self._mlflow.ask(lambda mlflow: mlflow.update_run(run_id, status="FINISHED"))
        return run_id

    def _find(self, experiment: str, digest: str) -> str | None:
        """The run of that very transfer that was not refused: what stood against it may be over."""
        # One that was cut off is not whole, and is sent anew.
        query = f"tags.`{TRANSFER}` = '{digest}' AND attributes.status = 'FINISHED'"
        runs = self._search([experiment], query)
        for run in runs:
            answer = _read_answer(run)
            is_refused = answer is not None and answer.version is None
            if not is_refused:
                run_id = run.info.run_id
                return str(run_id)
        return None

    def answer(self, run_id: str) -> TransferAnswer | None:
        """What became of a transfer; None while nobody has looked at it."""
        run = self._mlflow.ask(lambda mlflow: mlflow.get_run(run_id))
        return _read_answer(run)

    # The receiver's side.

    def list_open(self) -> tuple[str, ...]:
        """The runs of transfers that nobody has answered, the oldest first."""
        experiments = each_of_pages(
            lambda token: self._mlflow.ask(
                lambda mlflow: mlflow.search_experiments(
                    filter_string=f"name LIKE '{_EXPERIMENTS}%'", page_token=token
                )
            )
        )
        identifiers = [str(each.experiment_id) for each in experiments]
        # MLflow takes no search without an experiment.
        if not identifiers:
            return ()
        runs = self._search(identifiers, "attributes.status = 'FINISHED'")
        return tuple(
            str(run.info.run_id)
            for run in runs
            if TRANSFER in run.data.tags and ANSWER not in run.data.tags
        )

    def fetch(self, run_id: str, path: str, into: Path, most_bytes: int) -> Path:
        """Download one file or folder of a transfer, of at most so many bytes.

        `DamagedFile` where it is missing or larger; `TransferRefused` where its files are not
        where this MLflow keeps files.
        """
        self._check_place(run_id)
        sizes = self._sizes(run_id, path)
        size = sum(sizes)
        # Anybody may send: what does not fit is never on this machine's disk.
        if not 0 < size <= most_bytes:
            raise DamagedFile(
                f"{path} of transfer {run_id} has {size:,} bytes, and between 1 and "
                f"{most_bytes:,} are taken. Send it again."
            )
        self._mlflow.ask(
            lambda mlflow: mlflow.download_artifacts(run_id, path, str(into))
        )
        return into / path

    def _check_place(self, run_id: str) -> None:
        """The sender makes the experiment, and may have chosen any place for its files."""
        own = self._mlflow.attempt(self._mlflow.experiment)
        experiment = self._mlflow.ask(lambda mlflow: mlflow.get_experiment(own))
        run = self._mlflow.ask(lambda mlflow: mlflow.get_run(run_id))
        check_own_place(
            run.info.artifact_uri,
            self._mlflow.uri,
            experiment.artifact_location,
        )

    def close(self, run_id: str, answer: TransferAnswer) -> None:
        """Answer a transfer: nobody looks at it again."""
        # MLflow takes no longer tag, and a reason may quote what was sent.
        text = answer.text[:_LONGEST_ANSWER]
        shortened = answer.model_copy(update={"text": text})
        tag = shortened.model_dump_json()
        self._mlflow.ask(
            lambda mlflow: mlflow.set_tag(
                run_id,
                ANSWER,
                tag,
            )
        )

    def _sizes(self, run_id: str, path: str) -> Iterator[int]:
        folder, _, name = path.rpartition("/")
        for listed in self._list(run_id, folder):
            # MLflow lists a folder, and never one file by itself.
            if Path(listed.path).name != name:
                continue
            if not listed.is_dir:
                size = listed.file_size or 0
                yield int(size)
                continue
            contents = self._list(run_id, path)
            for inside in contents:
                yield from self._sizes(run_id, inside.path)

    def _list(self, run_id: str, folder: str) -> list[Any]:
        return self._mlflow.ask(
            lambda mlflow: mlflow.list_artifacts(run_id, folder or None)
        )

    def _search(self, experiments: list[str], query: str) -> "Iterator[Run]":
        return each_of_pages(
            lambda token: self._mlflow.ask(
                lambda mlflow: mlflow.search_runs(
                    experiments,
                    query,
                    max_results=_PAGE,
                    order_by=["attributes.start_time ASC"],
                    page_token=token,
                )
            )
        )


def _read_answer(run: "Run") -> TransferAnswer | None:
    text = run.data.tags.get(ANSWER)
    # The receiver has not come round yet.
    if text is None:
        return None
    try:
        return TransferAnswer.model_validate_json(text)
    except ValidationError as error:
        raise DamagedFile(
            f"The answer on transfer {run.info.run_id} is no answer of Assay's. "
            "Ask who runs MLflow there."
        ) from error


@contextmanager
def acting_as(login: Login | None) -> Iterator[None]:
    """Have MLflow's client introduce itself by a login, which is that of another server."""
    login_of = {
        "MLFLOW_TRACKING_USERNAME": None if login is None else login.user,
        "MLFLOW_TRACKING_PASSWORD": None if login is None else login.password,
        # A token would be taken in the place of both, and is this server's.
        "MLFLOW_TRACKING_TOKEN": None,
    }
    # MLflow's client reads these at every request, and has no other place for a login.
    before = {name: os.environ.get(name) for name in login_of}
    _set(login_of)
    try:
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, text in variables.items():
        if text is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = text
