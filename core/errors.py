"""Every error that Assay raises on purpose. A message names the thing, the fact and the next step.

exit code
  1  AssayError                    caught once, at an edge; the endpoint answers an HTTP status
     ├── PipelineError             a stage could not do its work
     │   ├── UnreadableData        a data file is missing, unreadable, or of an unknown format
     │   ├── NoSuchColumn          the data has no column of that name
     │   ├── EmptySplit            a split would hold no rows
     │   ├── UnusableBaseModel     a base model lacks what training or serving needs
     │   ├── UnusableRow           a row cannot be trained on or scored
     │   ├── DamagedFile           a file's bytes are not those that were recorded
     │   ├── UntrustedSignature    a package is not signed by a key that counts for it
     │   ├── UnsafeAdapter         an adapter with NaN, for another base, or that points at code
     │   ├── TrainingDidNothing    the trained adapter did not move, or diverged
     │   ├── IncompleteGeneration  a prompt has no completion
     │   ├── IncompleteEvidence    a comparison lacks rows, or holds a NaN
     │   ├── DownloadFailed        a package of the demo could not be fetched
     │   ├── SandboxUnavailable    code of a model cannot be run here in a box, so it is not run
     │   └── GateNotPassed         a stage was started behind a gate that did not pass
     ├── ParameterError            a parameter or a policy does not exist or does not fit
     ├── NotEnoughResources        too little memory or disk, estimated before training
 75  ├── RunStopped                the run received SIGTERM; what it did is kept
     ├── WorkspaceError            git or DVC could not prepare or run a stage
     ├── AlreadyTraining           another run trains the same model now
     ├── RegistryError             MLflow refused, or is unreachable
     ├── LedgerError               the ledger is unreachable or cannot be written
     │   ├── BrokenLedger          entries were edited, dropped, reordered or cut off
     │   ├── IllegalEntry          an entry does not follow from the ledger's state
     │   └── StaleGeneration       another process wrote first; nothing of ours was written
     ├── ReleaseError              the state allows no such release, rollback or brake
     │   └── TransferRefused       what another installation says of a version is not believed
     ├── OperationError            a service, a backup or a clean-up could not do its work
     └── ServingError              the endpoint cannot serve an adapter or a request

Exit codes that are no errors: 0 passed, 2 wrong usage of the command line, 3 rejected, 4 undecided.
"""

import os

from core.address import redact_secrets


class AssayError(Exception):
    """Root of the tree: every error below it is shown to a person as one line.

    A message may hold an address, or a library's text about one. It is printed on terminals,
    stored in Prefect's database and sent as a notice, so secrets are removed from it here.
    """

    # 1 means: something went wrong. What a gate answers has codes of its own.
    exit_code = 1

    def __init__(self, text: str = "") -> None:
        redacted = redact_secrets(text)
        super().__init__(redacted)


class PipelineError(AssayError):
    """A stage could not do its work."""


class UnreadableData(PipelineError):
    """A data file is missing, unreadable, or of an unknown format."""


class NoSuchColumn(PipelineError):
    """The data has no column of the name that the parameters give."""


class EmptySplit(PipelineError):
    """A split would hold no rows."""


class UnusableBaseModel(PipelineError):
    """A base model folder lacks what training or serving needs."""


class UnusableRow(PipelineError):
    """A row cannot be trained on or scored; the message names it."""


class DamagedFile(PipelineError):
    """The bytes of a file are not those that were recorded."""


class UntrustedSignature(PipelineError):
    """A package bears no signature, or none by a key that counts for it."""


class UnsafeAdapter(PipelineError):
    """An adapter holds NaN or Inf, belongs to another base, or its configuration points at code."""


class TrainingDidNothing(PipelineError):
    """Training ended, but the adapter did not move, or its loss is not a number."""


class IncompleteGeneration(PipelineError):
    """A prompt has no completion: nothing is filled in for it."""


class IncompleteEvidence(PipelineError):
    """A comparison lacks rows or holds a NaN: no score is invented."""


class DownloadFailed(PipelineError):
    """A package of the demo could not be fetched or is not the pinned one."""


class SandboxUnavailable(PipelineError):
    """Code that a model wrote cannot be run in a box here, so it is not run at all."""


class GateNotPassed(PipelineError):
    """A stage was started behind a gate that did not pass."""


class ParameterError(AssayError):
    """A parameter or a policy does not exist or does not fit."""


class NotEnoughResources(AssayError):
    """Too little memory or disk for what was asked."""


class RunStopped(AssayError):
    """The run received SIGTERM; what it did is kept, and the same command continues it."""

    exit_code = os.EX_TEMPFAIL  # 75: a temporary failure, in sysexits.h


class WorkspaceError(AssayError):
    """Git or DVC could not prepare or run a stage."""


class AlreadyTraining(AssayError):
    """Another run trains the same model now, and this one does not wait for it."""


class RegistryError(AssayError):
    """MLflow refused, or is unreachable."""


class ServingError(AssayError):
    """The endpoint cannot serve this adapter or this request."""


class LedgerError(AssayError):
    """The ledger is unreachable or cannot be written."""


class BrokenLedger(LedgerError):
    """Entries were edited, dropped, reordered or cut off, or an old copy was put back."""


class IllegalEntry(LedgerError):
    """An entry does not follow from the ledger's state; it is neither written nor obeyed."""


class StaleGeneration(LedgerError):
    """Another process wrote first; nothing of ours was written."""


class ReleaseError(AssayError):
    """The current state allows no such release, rollback or brake."""


class TransferRefused(ReleaseError):
    """What another installation says of a version is not believed, or speaks against it."""


class OperationError(AssayError):
    """A service, a backup or a clean-up that could not do its work."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; its kind where it has none."""
    text = str(error).strip()
    # Some errors say nothing; their kind says at least what it was.
    if not text:
        return type(error).__name__
    lines = text.splitlines()
    line = lines[0]
    return line[:200]
