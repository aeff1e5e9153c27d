"""Somebody with MLflow's client and the files of the home.

They want other weights to be served than were judged.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from core.files import digest_of_files, folder_digests
from core.value import FileDigest
from pipelines.metrics.metric import ScoredRow
from pipelines.models.language_model import LanguageModel, generate, load_language_model
from pipelines.scoring.evidence_file import EvidenceRow, read_evidence, write_evidence
from pipelines.scoring.scores import system_scores, with_statistics
from pipelines.values.base_manifest import BaseModelManifest
from pipelines.values.dataset import prompt_id
from pipelines.values.evidence import Adapter, Scorecard
from registry.mlflow.recorded import LOGICAL_RUN, PACKAGE
from registry.mlflow.store import _as_default_of_mlflow
from registry.release.known_answers import FILE, read_known_answers, write_known_answers
from registry.release.package_signature import SIGNATURE
from registry.release.recompute import recompute
from tests.support.journey import Checkout
from tests.support.tiny import pack

Change = Callable[["Forgery"], None]


@dataclass(frozen=True)
class Forgery:
    """A copy of a good version's package that is being changed."""

    folder: Path
    home: Path

    @property
    def scorecard(self) -> Scorecard:
        return Scorecard.read(self.folder / "scorecard.json")

    def base(self) -> tuple[BaseModelManifest, Path]:
        manifest = BaseModelManifest.read(self.folder / "base_model.json")
        return manifest, self.home / "base-models" / manifest.digest

    def language(self) -> LanguageModel:
        """The package's own weights, as they are now."""
        manifest, folder = self.base()
        template = (self.folder / "chat_template.jinja").read_text(encoding="utf-8")
        return load_language_model(
            manifest, folder, template, "float32", self.folder / "adapter"
        )


def weights_of_noise(forgery: Forgery) -> None:
    """Put noise where the adapter was, and have its record and the scorecard name it."""
    file = forgery.folder / "adapter/adapter_model.safetensors"
    dice = torch.Generator().manual_seed(7)
    tensors = load_file(str(file))
    noise = {
        name: torch.randn(tensor.shape, generator=dice) * 0.3
        for name, tensor in tensors.items()
    }
    save_file(
        {name: tensor.to(tensors[name].dtype) for name, tensor in noise.items()},
        str(file),
        {"format": "pt"},
    )
    digests = folder_digests(forgery.folder / "adapter")
    adapter = Adapter.read(forgery.folder / "adapter.json").model_copy(
        update={"files": digests, "sha256": digest_of_files(digests)}
    )
    adapter.write(forgery.folder / "adapter.json")
    card = forgery.scorecard
    spec = card.spec.with_adapter(adapter.sha256)
    evidence = read_evidence(forgery.folder / "evidence.parquet")
    makers = {**evidence.made_by, "adapter": spec}
    write_evidence(
        forgery.folder / "evidence.parquet",
        evidence.model_copy(update={"made_by": makers}),
    )
    digest = card.evidence.model_copy(
        update={"sha256": FileDigest.of(forgery.folder / "evidence.parquet").sha256}
    )
    card.model_copy(
        update={"adapter": adapter, "spec": spec, "evidence": digest}
    ).write(forgery.folder / "scorecard.json")


def known_answers_of_its_own(forgery: Forgery) -> None:
    """Known answers as the weights in the package give them now."""
    language, known = forgery.language(), read_known_answers(forgery.folder / FILE)
    prompts = [language.encoder.prompt_ids(answer.messages) for answer in known]
    answers = generate(
        language, prompts, max_new_tokens=known[0].max_tokens, batch_size=len(known)
    )
    texts = [language.encoder.decode(answer.ids) for answer in answers]
    own = [
        answer.model_copy(update={"text": text})
        for answer, text in zip(known, texts, strict=True)
    ]
    write_known_answers(forgery.folder / FILE, own)


def answers_replaced_by_references(forgery: Forgery) -> None:
    """Have the evidence say that the adapter answered every prompt with a reference."""
    replace_answers(forgery, lambda row: row.references[0])


def answers_with_a_letter_more(forgery: Forgery) -> None:
    """Have the evidence say what the adapter's own weights, which answer right, never said."""
    replace_answers(forgery, lambda row: f"{row.prediction}z")


def replace_answers(forgery: Forgery, answer_to: Callable[[ScoredRow], str]) -> None:
    """Have the evidence say that the adapter answered so; everything else follows from it."""
    evidence = read_evidence(forgery.folder / "evidence.parquet")
    rows = [row for same in evidence.rows.values() for row in same]
    forged = [
        with_answer(row, answer_to(row.row)) if row.system == "adapter" else row
        for row in rows
    ]
    metrics = [evidence.metric_named(name) for name in evidence.metrics]
    counted = with_statistics(forged, metrics).model_copy(
        update={"made_by": evidence.made_by, "settings": evidence.settings}
    )
    write_evidence(forgery.folder / "evidence.parquet", counted)
    card = forgery.scorecard
    digest = FileDigest.of(forgery.folder / "evidence.parquet").sha256
    card.model_copy(
        update={
            "systems": system_scores(counted, metrics, card.resampling),
            "evidence": card.evidence.model_copy(update={"sha256": digest}),
        }
    ).write(forgery.folder / "scorecard.json")
    known = read_known_answers(forgery.folder / FILE)
    texts = {row.row.prompt_id: row.row.prediction for row in counted.rows["adapter"]}
    write_known_answers(
        forgery.folder / FILE,
        [
            answer.model_copy(update={"text": texts[prompt_id(answer.messages)]})
            for answer in known
        ],
    )


def with_answer(row: EvidenceRow, text: str) -> EvidenceRow:
    return row.model_copy(
        update={"row": row.row.model_copy(update={"prediction": text})}
    )


def verdict_recomputed(forgery: Forgery) -> None:
    """The verdict that the forged files give."""
    recompute(forgery.folder).verdict.write(forgery.folder / "verdict.json")


def forge(site: Checkout, model: str, scratch: Path, *changes: Change) -> str:
    """Register a changed copy of version 1 with MLflow's client, and give its number.

    It has every tag that a run would have set.
    """
    client = MlflowClient(site.uri, site.uri)
    good = client.get_model_version(model, "1")
    source = site.home / "packages" / good.tags[PACKAGE]
    folder = scratch / "forged"
    shutil.copytree(source, folder)
    for change in changes:
        change(Forgery(folder, site.home))
    pack(folder)
    # Whoever forges has no packaging key, and the good version's signature covers other files.
    (folder / SIGNATURE).unlink(missing_ok=True)
    assert good.run_id is not None
    experiment = client.get_run(good.run_id).info.experiment_id
    logged = client.create_logged_model(
        experiment, name=model, source_run_id=good.run_id, model_type="lora-adapter"
    )
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    digest = digest_of_files(folder_digests(folder))
    tags = {**good.tags, PACKAGE: digest, LOGICAL_RUN: digest}
    with _as_default_of_mlflow(
        site.uri
    ):  # where MLflow's client looks a version's source up
        version = client.create_model_version(
            model,
            f"models:/{logged.model_id}",
            run_id=good.run_id,
            tags=tags,
            model_id=logged.model_id,
        )
    return str(version.version)
