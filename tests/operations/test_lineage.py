"""`assay lineage --base X`: what hangs on a base model, and what to do before it can go."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from cli.lineage_text import lineage_lines
from core.errors import ParameterError
from core.files import write_text
from core.project import Project
from operations.lineage import BaseLineage, lineage_of
from pipelines.values.champion import Champion, ChampionInput
from registry.ledger.entries import BaseServed, Release, Revoked
from registry.ledger.ledger import Ledger, open_ledger
from registry.mlflow.home_store import open_store
from registry.mlflow.recorded import CHAMPION, Page, Submission
from tests.support import trials
from tests.support.fake_endpoint import MODEL, release_of
from tests.support.journey import Package
from tests.support.ledgers import WHY, begin_release, complete_release, write
from tests.support.tiny import tiny_manifest

OLD, NEW, THIRD = "b" * 64, "d" * 64, f"bbbbbb{'0' * 58}"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a ledger and nothing else."""
    root = tmp_path / "project"
    write_text(root / "models/.keep", "")
    return Project(root, tmp_path / "home")


@pytest.fixture
def ledger(project: Project) -> Ledger:
    return open_ledger(project.home)


def on_base(version: str, base: str) -> Release:
    release = release_of(version)
    spec = release.spec.model_copy(update={"base_digest": base})
    return release.model_copy(update={"spec": spec})


def release(ledger: Ledger, version: str, base: str) -> None:
    complete_release(ledger, begin_release(ledger, on_base(version, base)))


def put_package(
    home: Path, version: str, base: str, base_id: str, champion_on: str | None = None
) -> Path:
    """A version's package on this machine, as far as its base is told by it."""
    folder = home / "packages" / release_of(version).package_sha256
    adapter = trials.adapter(base_digest=base, base_id=base_id, base_revision="r1")
    adapter.write(folder / "adapter.json")
    champion = None
    if champion_on is not None:
        named = trials.adapter(base_digest=champion_on, base_id="old-base")
        champion = Champion(version="1", adapter=named)
    ChampionInput(champion=champion).write(folder / "champion.json")
    return folder


def states_of(lineage: BaseLineage) -> dict[str, tuple[str, ...]]:
    return {version.version: version.states for version in lineage.versions}


def test_what_serves_and_where_a_rollback_leads_are_named_with_a_way_out(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", NEW)
    of_new = lineage_of(project, NEW)
    assert states_of(of_new) == {"2": ("serves",)}
    words = "\n".join(of_new.advice)
    assert f"`assay rollback --model {MODEL}` leads to version 1 on another" in words
    assert f"`assay revoke N --model {MODEL}` for 2" in words
    of_old = lineage_of(project, OLD)
    assert states_of(of_old) == {"1": ("a rollback leads here", "served once")}
    assert "answers, which needs it" not in "\n".join(of_old.advice)


def test_without_a_version_on_another_base_only_training_leads_away(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", OLD)
    found = lineage_of(project, OLD)
    assert "train on another with `assay run --base-model FOLDER" in found.advice[0]
    write(ledger, BaseServed(model=MODEL, by="ann", reason_sha256=WHY))
    found = lineage_of(project, OLD)
    assert states_of(found)["2"] == ("its base serves",)
    assert found.advice[0].startswith("The base itself answers")


def test_a_release_on_its_way_is_named(project: Project, ledger: Ledger) -> None:
    begin_release(ledger, on_base("1", OLD))
    found = lineage_of(project, OLD)
    assert states_of(found) == {"1": ("is being released",)}
    assert "is being released: `assay rollback" in found.advice[0]


def test_what_is_revoked_needs_no_second_revocation(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", NEW)
    write(ledger, Revoked(model=MODEL, version="1", by="ann", reason_sha256=WHY))
    found = lineage_of(project, OLD)
    assert states_of(found) == {"1": ("revoked", "served once")}
    assert found.advice == ()


def test_a_base_is_found_by_each_of_its_names(project: Project, ledger: Ledger) -> None:
    release(ledger, "1", OLD)
    put_package(project.home, "1", OLD, "old-base")
    for asked in ("old-base", "r1", OLD, OLD[:6]):
        assert states_of(lineage_of(project, asked)) == {"1": ("serves",)}, asked
    for unknown in ("", "old", OLD[:5], "e" * 64, "../home"):
        with pytest.raises(ParameterError, match="No version hangs on a base model"):
            lineage_of(project, unknown)


def test_digits_that_two_bases_share_are_not_enough(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", THIRD)
    with pytest.raises(ParameterError, match="2 base models begin with bbbbbb"):
        lineage_of(project, "bbbbbb")
    assert states_of(lineage_of(project, THIRD[:8])) == {"2": ("serves",)}


def test_one_name_for_two_bases_lists_both(project: Project, ledger: Ledger) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", NEW)
    put_package(project.home, "1", OLD, "my-base")
    put_package(project.home, "2", NEW, "my-base")
    found = lineage_of(project, "my-base")
    assert {base.digest for base in found.bases} == {OLD, NEW}
    assert set(states_of(found)) == {"1", "2"}


def test_a_folder_is_known_by_its_bytes(
    project: Project, ledger: Ledger, tiny: Path
) -> None:
    digest = tiny_manifest(tiny, project.home).digest
    release(ledger, "1", digest)
    write_text(
        project.root / "models/letters.yaml", f"data: null\nbase_model: {tiny}\n"
    )
    found = lineage_of(project, str(tiny))
    assert states_of(found) == {"1": ("serves",)}
    assert found.bases[0].folder == str(tiny)
    assert found.trained_by == ("models/letters.yaml",)
    assert "models/letters.yaml trains on it" in found.advice[-1]


def test_a_folder_on_which_nothing_hangs_says_so(
    project: Project, ledger: Ledger, tiny: Path
) -> None:
    release(ledger, "1", OLD)
    found = lineage_of(project, str(tiny))
    assert (found.versions, found.advice) == ((), ())
    assert "No version hangs on it." in list(lineage_lines(found))


def test_a_verdict_that_rests_on_a_comparison_with_it_is_evidence(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    release(ledger, "2", NEW)
    put_package(project.home, "1", OLD, "old-base")
    put_package(project.home, "2", NEW, "new-base", champion_on=OLD)
    found = lineage_of(project, "old-base")
    (compared,) = found.evidence
    assert (compared.version, compared.against) == ("2", "champion 1")
    assert "rests on a comparison with champion 1" in "\n".join(lineage_lines(found))
    of_new = lineage_of(project, "new-base")
    assert of_new.evidence == ()
    assert of_new.versions[0].compared_with == ("champion 1",)


def test_records_that_disagree_are_told(project: Project, ledger: Ledger) -> None:
    release(ledger, "1", OLD)
    put_package(project.home, "1", NEW, "new-base")
    for base in (OLD, NEW):
        found = lineage_of(project, base)
        assert not found.versions[0].agrees
        assert "records disagree on its base" in "\n".join(lineage_lines(found))


def test_a_damaged_package_is_a_note_and_hides_nothing(
    project: Project, ledger: Ledger
) -> None:
    release(ledger, "1", OLD)
    folder = put_package(project.home, "1", OLD, "old-base")
    (folder / "adapter.json").write_text('{"base_digest": NaN}', encoding="utf-8")
    found = lineage_of(project, OLD)
    assert states_of(found) == {"1": ("serves",)}
    assert any("A package was not read" in note for note in found.notes)


def test_without_any_record_nothing_is_found_and_nothing_is_made(
    project: Project,
) -> None:
    with pytest.raises(ParameterError, match="or one of: none"):
        lineage_of(project, "old-base")
    assert not project.home.exists()


@pytest.fixture
def in_mlflow(project: Project, empty_mlflow: Path, package: Package) -> Project:
    """Three versions in MLflow alone: one page is whole, two were edited."""
    project.home.mkdir()
    shutil.copyfile(empty_mlflow, project.home / "mlflow.db")
    store = open_store(project)
    pages: tuple[dict[str, str], ...] = (
        {"assay.base_digest": NEW, "assay.base_id": "new\x1bbase"},
        {"assay.base_digest": "../../etc"},
        {},
    )
    for number, tags in enumerate(pages):
        work = f"work {number}"
        run = store.runs.begin(work, "letters on tiny", {"assay.model": "tiny"})
        page = Page(description="", tags={"assay.git_commit": "0" * 40, **tags})
        submission = Submission(
            run=run, package=package.folder, model="tiny", logical_run=work, page=page
        )
        store.register(package.finalist, submission)
    store.move_alias("tiny", CHAMPION, "1")
    return project


def test_mlflow_alone_says_the_base_and_the_aliases(in_mlflow: Project) -> None:
    found = lineage_of(in_mlflow, NEW)
    (version,) = found.versions
    assert (version.model, version.version) == ("tiny", "1")
    assert (version.states, version.aliases) == (("registered",), (CHAMPION,))
    assert not version.has_package_here
    assert found.bases[0].names == ("'new\\x1bbase'",)
    notes = "\n".join(found.notes)
    assert "The page of tiny 2 names no base: '../../etc'" in notes
    assert "Of tiny 2, tiny 3 no record names the base" in notes


def test_the_command_prints_a_table_or_one_line_of_json(
    project: Project, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(ledger, "1", OLD)
    monkeypatch.setattr("operations.lineage.find_project", lambda _: project)
    with chdir(project.root):
        table = CliRunner().invoke(main, ["lineage", "--base", OLD[:8]])
        line = CliRunner().invoke(main, ["lineage", "--base", OLD[:8], "--json"])
        wrong = CliRunner().invoke(main, ["lineage", "--base", "nothing"])
    assert "base bbbbbbbbbbbb  without a name  not on this machine" in table.output
    assert f"{MODEL}  1        serves" in table.output
    assert json.loads(line.output)["versions"][0]["states"] == ["serves"]
    assert wrong.exit_code == 1
    assert "No version hangs on a base model 'nothing'" in wrong.output
