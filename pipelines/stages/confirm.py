"""Stage `confirm`: answer and score one block of the sealed reserve.

In: the block that the run may open (`data/reserve/block.json`), the reserve's rows, the adapter,
the base model, and the champion or, where nothing serves yet, the examples of the best prompt.
Out: `data/confirm` with the block's rows, both systems' answers, `evidence.parquet` and
`confirmation.json`.
Refuses: what `generate` and `score` refuse, and rows other than those that were opened.

The run enters in the ledger that it opens the block before this stage runs, and what came of it
afterwards. Where it opens none, as in a `dvc repro` by hand, nothing is answered.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import DamagedFile
from core.files import folder_bytes
from core.settings import Settings
from core.value import FileDigest
from pipelines import layout
from pipelines.engines.scored_model import open_scored_model
from pipelines.gates.confirmation import (
    compare_on_block,
    find_block_faults,
    find_confirmed,
)
from pipelines.gates.policy import load_policy
from pipelines.kept_results import kept_results
from pipelines.metrics import metric_named, own_metric_file
from pipelines.models.adapter_files import check_adapter
from pipelines.models.answers import Identity, Messages, Places, answer
from pipelines.models.comparator_bases import PlacedBase, base_of, own_base
from pipelines.models.language_model import LanguageModel
from pipelines.models.retrieval import (
    Index,
    Retriever,
    identity_of,
    record_retrieved,
    retrieve,
)
from pipelines.scoring.evidence_file import Evidence, write_evidence
from pipelines.stages.score import build_evidence, check_against_evaluate
from pipelines.values.champion import read_comparators
from pipelines.values.dataset import (
    DatasetVersion,
    Prompt,
    Row,
    group_prompts,
    read_rows,
    write_rows,
)
from pipelines.values.evidence import Adapter, System
from pipelines.values.examples import FewShotChoice, Retrieved
from pipelines.values.own_metric import own_metric_names
from pipelines.values.params import Params, load_params
from pipelines.values.reserve import Block, BlockInput, Confirmation, rows_of_groups
from pipelines.values.training_set import read_training_set
from pipelines.values.trial import Trial, read_answers

NOTHING_OPENED = "No block of the reserve was opened: only a run that is recorded does."


@dataclass(frozen=True)
class Questions:
    """A block's prompts, and the base model with which a system answers them."""

    prompts: tuple[Prompt, ...]
    params: Params
    base: PlacedBase
    kept: Path

    def ask_adapter(self, system: System, adapter: Adapter, folder: Path) -> None:
        """Have an adapter answer, once its files are those that were recorded."""
        # The folder may have changed since it was written.
        check_adapter(folder, adapter, self.base.manifest)
        identity = Identity(
            system=system,
            base=self.base.manifest,
            adapter_sha256=adapter.sha256,
            adapter_bytes=folder_bytes(folder),
        )
        self._ask(identity, folder)

    def ask_base(self) -> None:
        """Have the base answer as it is."""
        self._ask(Identity(system="base", base=self.base.manifest), None)

    def ask_few_shot(self, examples: Messages) -> None:
        """Have the bare base answer after the examples that were chosen on dev rows."""
        # No adapter: the examples are all that the base gets, as on the held-out rows.
        identity = Identity(
            system="few_shot",
            base=self.base.manifest,
            examples=examples,
        )
        self._ask(identity, None)

    def ask_retrieval(self, chosen: Retrieved, train: FileDigest) -> None:
        """Have the bare base answer after training rows that resemble each of these prompts."""
        index = Index.of(train)
        if index.sha256 != chosen.train_sha256:
            raise DamagedFile(
                f"{layout.RETRIEVED} is of another index than the admitted training rows. "
                "Run `dvc repro prompt_baselines`."
            )
        with self._open(None) as language:
            retriever = Retriever(index, language, chosen.examples)
            found = retrieve(retriever, self.prompts, self.params.generation)
            # The number was chosen on dev: the block has no say in it.
            record = record_retrieved(retriever, chosen.dev_nats_per_token, found)
            record.write(layout.CONFIRM / layout.RETRIEVED.name)
            self._answer(identity_of(self.base.manifest, record, found), language)

    def _ask(self, identity: Identity, adapter: Path | None) -> None:
        with self._open(adapter) as language:
            self._answer(identity, language)

    def _open(self, adapter: Path | None) -> AbstractContextManager[LanguageModel]:
        # Loaded for each system: an adapter that stays in memory would answer for the other.
        return open_scored_model(self.base, self.params.generation, adapter)

    def _answer(self, identity: Identity, language: LanguageModel) -> None:
        answer(
            identity,
            language,
            self.prompts,
            self.params.generation,
            Places(layout.CONFIRM, self.kept),
        )


def main() -> int:
    """Write data/confirm; without a block only the reason why there is nothing in it."""
    block = BlockInput.read(layout.BLOCK_INPUT).block
    # Written all the same: a stage that leaves no output would fail in DVC.
    if block is None:
        Confirmation(missing=NOTHING_OPENED).write(layout.CONFIRMATION)
        print(NOTHING_OPENED)
        return 0
    params = load_params()
    rows = rows_of_groups(read_rows(layout.SEALED), block.groups)
    _check_rows(block, rows)
    prompts = group_prompts(rows)
    adapter = _answer_block(block, prompts, params)
    evidence = _build_evidence(block, prompts, adapter, params)
    policy = load_policy(layout.POLICY).gates.screen
    path = layout.CONFIRM / "evidence.parquet"
    # Kept beside the evidence, so that an audit need not open the reserve again.
    rows_path = layout.CONFIRM / "rows.jsonl"
    write_evidence(path, evidence)
    write_rows(rows_path, rows)
    comparison = compare_on_block(
        evidence,
        policy,
        block.against,
        block.level,
    )
    confirmation = Confirmation(
        block=block,
        comparison=comparison,
        rows=FileDigest.of(rows_path),
        evidence=FileDigest.of(path),
    )
    confirmation.write(layout.CONFIRMATION)
    print(find_confirmed(confirmation).text)
    return 0


def _check_rows(block: Block, rows: tuple[Row, ...]) -> None:
    faults = find_block_faults(
        block,
        rows,
        read_rows(layout.HELD_OUT),
    )
    if faults:
        raise DamagedFile(
            f"The reserve is not what it was when its block was opened ({faults[0]}). "
            "Run again: another block is opened."
        )


def _answer_block(block: Block, prompts: tuple[Prompt, ...], params: Params) -> Adapter:
    """Have the adapter and its opponent answer; gives the adapter."""
    home = Settings().home
    # What was answered before a kill is found there again.
    with kept_results("confirm") as kept:
        questions = Questions(prompts, params, own_base(home), kept)
        return _ask_both(block, questions, home)


def _ask_both(block: Block, questions: Questions, home: Path) -> Adapter:
    adapter = Adapter.read(layout.ADAPTER)
    questions.ask_adapter("adapter", adapter, Path(adapter.folder))
    # One opponent: each comparison more would need a part of the level of the year.
    if block.against == "champion":
        comparators = dict(read_comparators())
        served = comparators["champion"]
        champion = served.adapter
        champion_folder = layout.CHAMPION / "champion"
        # It answers on the base that it serves on, which may be another one.
        base = base_of("champion", champion, questions.base, home)
        generation = served.as_served(questions.params.generation)
        params = questions.params.model_copy(update={"generation": generation})
        as_served = replace(questions, base=base, params=params)
        as_served.ask_adapter("champion", champion, champion_folder)
    elif block.against == "base":
        questions.ask_base()
    elif block.against == "retrieval":
        train = read_training_set().train
        questions.ask_retrieval(Retrieved.read(layout.RETRIEVED), train)
    else:
        choice = FewShotChoice.read(layout.FEW_SHOT_EXAMPLES)
        questions.ask_few_shot(choice.examples)
    return adapter


def _build_evidence(
    block: Block, prompts: tuple[Prompt, ...], adapter: Adapter, params: Params
) -> Evidence:
    """Both systems' rows with the statistics of the primary metric alone."""
    systems = ("adapter", block.against)
    answers = [read_answers(layout.CONFIRM / f"{name}.json") for name in systems]
    dataset = DatasetVersion.read(layout.DATASET)
    trial = Trial(
        dataset_digest=dataset.content_sha256(),
        held_out_sha256=block.rows_sha256,
        prompts=prompts,
        adapter=adapter,
        systems=tuple(answers),
        dev_prompts=(),
        variants=(),
    )
    name = load_policy(layout.POLICY).gates.screen.primary
    settings = params.score.settings
    # In a process of its own, as in `score`: it is code that a person brought.
    if own_metric_names([name]):
        file = own_metric_file(name, Path())
        return build_evidence(trial, (), settings, [file])
    metric = metric_named(name, settings)
    evidence = build_evidence(trial, [metric], settings)
    # Before anything is written: a doubtful number must not be found on disk.
    check_against_evaluate(evidence, [metric])
    return evidence
