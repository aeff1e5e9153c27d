"""Every error that Assay raises on purpose. A message names the thing, the fact and the next step.

AssayError                    caught once, at an edge: exit code 1, or an HTTP status
├── PipelineError             a stage could not do its work
│   ├── UnreadableData        a data file is missing, unreadable, or of an unknown format
│   ├── NoSuchColumn          the data has no column of that name
│   ├── EmptySplit            a split would hold no rows
│   ├── UnusableBaseModel     a base model folder lacks what training or serving needs
│   ├── UnusableRow           a row that cannot be trained on or scored, by name
│   ├── DamagedFile           a digest, a checkpoint or an adapter is not what was recorded
│   ├── UnsafeAdapter         an adapter with NaN, for another base, or with an impossible configuration
│   ├── TrainingDidNothing    the adapter that came out of training did not move, or diverged
│   ├── IncompleteGeneration  a prompt without its completion
│   ├── IncompleteEvidence    a comparison lacks rows, or holds a NaN
│   ├── DownloadFailed        a package of the demo could not be fetched
│   └── GateNotPassed         a stage was asked to go on after a gate that did not pass
├── ParameterError            a parameter or a policy that does not exist or does not fit
├── NotEnoughResources        too little memory or disk for what was asked, estimated before training
├── RunStopped                the run was told to stop (SIGTERM); what it did is kept: exit code 75
├── WorkspaceError            git or DVC could not prepare or run a stage
├── AlreadyTraining           another run trains the same model now
├── RegistryError             MLflow refused, or is out of reach
├── LedgerError               the ledger is out of reach or cannot be written
│   ├── BrokenLedger          entries were edited, dropped, reordered or cut off, or an old copy was put back
│   ├── IllegalEntry          an entry does not follow from how things stand
│   └── StaleGeneration       somebody else wrote first; nothing of ours was written
├── ReleaseError              a release, a rollback or a brake that cannot be carried out as things stand
├── OperationError            a service, a backup or a clean-up that could not do its work
└── ServingError              an adapter or a request that the endpoint cannot serve
"""

import os

from core.address import without_secrets


class AssayError(Exception):
    """Root of the tree: everything below is shown to a person as one line.

    It may tell of an address or pass on what a library said of one, and it ends on a terminal, in Prefect's database and in notices.
    So no secret of a setting comes into it.
    """

    exit_code = 1

    def __init__(self, text: str = "") -> None:
        super().__init__(without_secrets(text))


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


class UnsafeAdapter(PipelineError):
    """An adapter holds NaN or Inf, belongs to another base, or has a configuration that points at code."""


class TrainingDidNothing(PipelineError):
    """Training ended, but the adapter did not move, or its loss is not a number."""


class IncompleteGeneration(PipelineError):
    """A prompt has no completion: nothing is filled in for it."""


class IncompleteEvidence(PipelineError):
    """A comparison lacks rows or holds a NaN: no score is invented."""


class DownloadFailed(PipelineError):
    """A package of the demo could not be fetched or is not the pinned one."""


class GateNotPassed(PipelineError):
    """A stage was asked to go on after a gate that did not pass."""


class ParameterError(AssayError):
    """A parameter or a policy does not exist or does not fit."""


class NotEnoughResources(AssayError):
    """Too little memory or disk for what was asked."""


class RunStopped(AssayError):
    """The run was told to stop (SIGTERM); what it did is kept, and the same command goes on."""

    exit_code = os.EX_TEMPFAIL  # 75: a failure that passes, as sysexits.h has it


class WorkspaceError(AssayError):
    """Git or DVC could not prepare or run a stage."""


class AlreadyTraining(AssayError):
    """Another run trains the same model now, and this one was told not to wait."""


class RegistryError(AssayError):
    """MLflow refused, or is out of reach."""


class ServingError(AssayError):
    """The endpoint cannot serve this adapter or this request."""


class LedgerError(AssayError):
    """The ledger is out of reach or cannot be written."""


class BrokenLedger(LedgerError):
    """Entries were edited, dropped, reordered or cut off, or an old copy was put back."""


class IllegalEntry(LedgerError):
    """An entry does not follow from how things stand; it is not written, and not obeyed."""


class StaleGeneration(LedgerError):
    """Somebody else wrote first; nothing of ours was written."""


class ReleaseError(AssayError):
    """A release, a rollback or a brake that cannot be carried out as things stand."""


class OperationError(AssayError):
    """A service, a backup or a clean-up that could not do its work."""
