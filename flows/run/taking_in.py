"""An adapter that was trained elsewhere, put where training would have put one, and probed."""

import time
from collections.abc import Callable
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from core.console import say
from core.files import read_jsonl, write_jsonl
from flows.run.report import print_stage
from flows.run.reproduce import StageRun
from flows.run.workspace import Workspace
from pipelines import layout
from pipelines.models.base_store import locate_base_model, read_base_model
from pipelines.models.foreign_adapter import take_in
from pipelines.models.foreign_config import ForeignAdapter
from pipelines.scoring.evidence_file import Evidence, read_evidence
from pipelines.statistics.membership import Gain, probe_membership
from pipelines.values.dataset import DatasetVersion, Row, read_rows
from pipelines.values.evidence import Adapter
from pipelines.values.training_set import read_training_set

ADAPTER_FOLDER = layout.FINE_TUNE / "adapter"
_GAINS = layout.FINE_TUNE / "gains.jsonl"


def place_adapter(workspace: Workspace, foreign: ForeignAdapter) -> None:
    """Take the adapter into the workspace as a Prefect task; `UnsafeAdapter` says why not."""
    run_taking_in(lambda: _take_in(workspace, foreign))


def run_taking_in(take: Callable[[], str]) -> None:
    """Run `take` as a Prefect task, and print the line that it gives as a stage's."""
    started = time.monotonic()
    taking_in = task(
        name="take_in",
        task_run_name="take_in",
        cache_policy=NO_CACHE,
        persist_result=False,
    )(take)
    summary = taking_in()
    run = StageRun(
        stage="take_in",
        seconds=time.monotonic() - started,
        cached=False,
        waited=False,
        summary=summary,
    )
    print_stage(run)


def probe(workspace: Workspace) -> None:
    """Write what the probe of membership says, and print it."""
    root = workspace.root
    known = [Gain.model_validate(record) for record in read_jsonl(root / _GAINS)]
    evidence = read_evidence(root / layout.EVIDENCE)
    # Whether chance or a person decided which rows are held out.
    dataset = DatasetVersion.read(root / layout.DATASET)
    probed = probe_membership(
        known,
        _held_out_gains(evidence),
        is_random_split=not dataset.held_out_is_fixed,
    )
    probed.write(root / layout.MEMBERSHIP)
    say(f"  {probed.text}.")


def _take_in(workspace: Workspace, foreign: ForeignAdapter) -> str:
    """Copy and check the adapter, measure its losses, and give the line that people see."""
    # torch comes with it.
    from pipelines.models.language_model import load_language_model
    from pipelines.models.taken_in import draw_rows, measure, record_taken_in

    root, params = workspace.root, workspace.params.generation
    base, template = read_base_model(root / layout.BASE_MODEL)
    folder = locate_base_model(base, workspace.home)
    lora = take_in(foreign, base, folder, root / ADAPTER_FOLDER)
    language = load_language_model(
        base,
        folder,
        template,
        params.precision,
        root / ADAPTER_FOLDER,
    )
    train, dev = _rows_of(root)
    of_train = measure(language, draw_rows(train), params.batch_size)
    of_dev = measure(language, draw_rows(dev), params.batch_size)
    gains = [*of_train.gains(), *of_dev.gains()]
    write_jsonl(root / _GAINS, (gain.model_dump() for gain in gains))
    adapter = record_taken_in(
        (root, ADAPTER_FOLDER),
        foreign,
        lora,
        base,
        (of_train, of_dev),
    )
    adapter.write(root / layout.ADAPTER)
    return _summarise(adapter, foreign)


def _rows_of(root: Path) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    training_set = read_training_set(root / layout.TRAINING_SET)
    train = training_set.train.checked(root)
    dev = training_set.dev.checked(root)
    rows_of_train = read_rows(train)
    rows_of_dev = read_rows(dev)
    return rows_of_train, rows_of_dev


def _summarise(adapter: Adapter, foreign: ForeignAdapter) -> str:
    looks = adapter.dev_losses
    without = f"{looks[0].loss:.3f}"
    with_it = f"{looks[1].loss:.3f}"
    first = f"trained elsewhere, rank {foreign.lora.r}, dev loss {without} → {with_it}"
    lines = [first, *foreign.provenance.notes]
    return "\n".join(lines)


def _held_out_gains(evidence: Evidence) -> list[Gain]:
    """What the adapter gains over the base on each held-out prompt, all its references together."""
    gains = []
    # The same prompts in the same order for each system.
    of_both = zip(
        evidence.clusters,
        evidence.rows["base"],
        evidence.rows["adapter"],
        strict=True,
    )
    for cluster, without, with_it in of_both:
        lost = sum(loss.nats for loss in without.row.losses)
        kept = sum(loss.nats for loss in with_it.row.losses)
        lengths = [loss.utf8_bytes for loss in with_it.row.losses]
        gain = Gain(group=cluster, nats=lost - kept, utf8_bytes=sum(lengths))
        gains.append(gain)
    return gains
