"""`people.yaml`: who is who, and who may do what."""

import os
from pathlib import Path

import pytest

from core.account import group_by_person, login_name
from core.errors import ParameterError
from registry.release.people import DEFAULT, FILE, People, acting_name, read_people

TWO = """\
people:
  ann:
    mlflow: [ann, ann.b]
    accounts: [1000, kim]
    roles: [release_manager, approver]
  bob:
    mlflow: [bob2]
    roles: [approver]
"""


def written(root: Path, text: str) -> People:
    (root / FILE).write_text(text, encoding="utf-8")
    return read_people(root)


@pytest.fixture
def two(tmp_path: Path) -> People:
    return written(tmp_path, TWO)


@pytest.mark.parametrize(
    ("by", "account", "person"),
    [
        ("ann", "mlflow:ann", "ann"),
        ("ann.b", "mlflow:ann.b", "ann"),
        # Users of MLflow's of their own, whom somebody made to look alike.
        ("Ann", "mlflow:Ann", None),
        ("ａｎｎ", "mlflow:ａｎｎ", None),
        ("kim", "1000 (kim)", "ann"),
        ("whatever", "1000", "ann"),
        ("kim", "2000 (kim)", "ann"),  # on another machine
        ("root", "0 (root) for 1000 (kim)", "ann"),
        ("bob2", "mlflow:bob2", "bob"),
        # Who logged in acts, in whoever's terminal.
        ("bob2", "mlflow:bob2 by 1000 (kim)", "bob"),
        ("eve", "mlflow:eve by 1000 (kim)", None),
        # A name alone is nobody's, and neither are digits in one.
        ("ann", "1001 (lea)", None),
        ("ann", None, None),
        ("u1000", "mlflow:u1000", None),
        ("ann", "mlflow:bob2", None),
        # A user of MLflow's whose name looks like a login of somebody else.
        ("ann by 1000 (kim)", "mlflow:ann by 1000 (kim)", None),
        ("", "", None),
    ],
)
def test_a_person_is_known_by_the_account_and_by_no_typed_name(
    two: People, by: str, account: str | None, person: str | None
) -> None:
    assert two.person_of(by, account) == person
    assert two.has_role(by, account, "approver") is (person is not None)
    assert two.has_role(by, account, "release_manager") is (person == "ann")


def test_everybody_behind_an_account_is_one_person(two: People) -> None:
    logged_in = ("bob2", "mlflow:bob2 by 1000 (kim)")
    assert two.persons_of(*logged_in) == {"ann", "bob"}
    persons = group_by_person(
        (
            two.signed("ann.b", "mlflow:ann.b"),
            two.signed("kim", "1000 (kim)"),
            two.signed("lea", "1001 (lea)"),
        )
    )
    assert sorted(len(person) for person in persons) == [1, 2]
    assert two.persons_of("ann", None) == frozenset()
    # Who looks alike has no role, and is no second person either.
    for name in ("Ann", "ａｎｎ", "ANN.B", "an\u200bn"):
        assert two.persons_of(name, f"mlflow:{name}") == {"ann"}
    assert two.list_with_role("approver") == ("ann", "bob")
    assert two.list_with_role("release_manager") == ("ann",)


def test_an_account_acts_under_names_of_its_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, uid = login_name(), os.getuid()
    monkeypatch.delenv("ASSAY_USER", raising=False)
    assert acting_name(tmp_path) == own
    for same in (own, own.upper(), f" {own} "):
        monkeypatch.setenv("ASSAY_USER", same)
        assert acting_name(tmp_path) == own
    monkeypatch.setenv("ASSAY_USER", "eve")
    with pytest.raises(ParameterError, match="names 'eve', and this account is"):
        acting_name(tmp_path)
    written(
        tmp_path, f"people: {{kim: {{accounts: [{uid}], mlflow: [k2]}}, eve: {{}}}}"
    )
    for name in ("kim", "KIM", "k2", str(uid)):
        monkeypatch.setenv("ASSAY_USER", name)
        assert acting_name(tmp_path) == name
    for other in ("eve", "k3", "x" * 150, os.fsdecode(b"\xff")):
        monkeypatch.setenv("ASSAY_USER", other)
        with pytest.raises(ParameterError) as refused:
            acting_name(tmp_path)
        assert str(refused.value).encode()
    # What most do needs no file.
    (tmp_path / FILE).write_text("people: [")
    monkeypatch.setenv("ASSAY_USER", own)
    assert acting_name(tmp_path) == own


def test_without_a_file_the_first_users_and_the_homes_owner_have_roles(
    tmp_path: Path,
) -> None:
    people = read_people(tmp_path)
    assert people == DEFAULT
    has = people.has_role
    assert has("manager", "mlflow:manager", "approver")
    assert has("manager", "mlflow:manager", "release_manager")
    assert has("scientist", "mlflow:scientist", "author")
    assert not has("scientist", "mlflow:scientist", "approver")
    assert has("admin", "mlflow:admin", "auditor")
    assert has("kim", "1000 (kim)", "release_manager")
    assert not has("kim", "1000 (kim)", "approver")
    # Neither an unknown user of MLflow's nor a text of another form is the home's owner.
    assert not has("eve", "mlflow:eve by 1000 (kim)", "release_manager")
    assert not has("eve", "mlflow:eve", "release_manager")
    assert not has("eve", "somebody", "release_manager")
    assert not has("kim", None, "release_manager")


def test_the_file_that_a_project_begins_with_says_what_holds_without_one() -> None:
    root = Path(__file__).parents[2]
    assert (root / FILE).is_file()
    assert read_people(root) == DEFAULT


def test_with_a_file_nobody_else_has_a_role(two: People) -> None:
    assert not two.has_role("lea", "1001 (lea)", "release_manager")
    assert not two.has_role("manager", "mlflow:manager", "approver")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "people"),
        ("[1]\n", "people"),
        ("people:\n", "people"),
        ("people: {}\nroles: {}\n", "roles"),
        ("command_line: [author]\n", "people"),
        ("people: {}\ncommand_line: [boss]\n", "command_line.0"),
        ("people: {ann: {role: [author]}}\n", "people.ann.role"),
        ("people: {ann: {roles: [boss]}}\n", "people.ann.roles.0"),
        ("people: {ann: {roles: author}}\n", "people.ann.roles"),
        ("people: {ann: {mlflow: [yes]}}\n", "people.ann.mlflow.0"),
        ("people: {ann: {mlflow: ['']}}\n", "people.ann.mlflow.0"),
        ("people: {ann: {mlflow: [' ann']}}\n", "people.ann.mlflow.0"),
        ('people: {ann: {mlflow: ["a\\tb"]}}\n', "people.ann.mlflow.0"),
        ('people: {ann: {mlflow: ["\\u200b"]}}\n', "people.ann.mlflow.0"),
        ("people: {ann: {accounts: [.nan]}}\n", "people.ann.accounts.0"),
        ("people: {ann: {accounts: [true]}}\n", "people.ann.accounts.0"),
        ("people: {ann: {accounts: [-1000.5]}}\n", "people.ann.accounts.0"),
        ("people: {ann: {accounts: ['1000 (kim)']}}\n", "people.ann.accounts.0"),
        ("people: {1: {roles: [author]}}\n", "people.1"),
        ("people: {ann: {mlflow: [assay]}}\n", "service"),
        ("people: {ann: {mlflow: [x]}, bob: {mlflow: [X]}}\n", "people.bob"),
        ("people: {ann: {accounts: [7, '7']}}\n", "people.ann"),
        ("people: {ann: {accounts: [7]}, bob: {accounts: ['7']}}\n", "people.bob"),
        ("people: {ann: {}, ANN: {}}\n", "people.ANN"),
        ("people:\n  ann: {}\n  ann: {}\n", "line 3"),
        ("people:\n  ann: {}\n  [x]: {}\n", "line 3"),
        ("people:\n  ann: &a {}\n  bob: *a\n", "line 3"),
        ("people: {ann: [\n", "line 2"),
        ("people: !!python/object:os.system {}\n", "line 1"),
        ("people: {ann: {roles: [2024-13-45]}}\n", "ValueError"),
        ("[" * 1000, "RecursionError"),
        ("people: {}\x00\n", "no YAML (ReaderError)"),
        ("# " + "x" * 100_000, "larger"),
    ],
    ids=lambda text: text[:40],
)
def test_a_file_that_cannot_be_taken_at_its_word_is_one_sentence(
    tmp_path: Path, text: str, what: str
) -> None:
    with pytest.raises(ParameterError) as caught:
        written(tmp_path, text)
    sentence = str(caught.value)
    assert FILE in sentence
    assert what in sentence
    assert "bring it back from git" in sentence
    assert "\n" not in sentence


def test_no_link_no_folder_and_no_other_bytes_are_read(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(TWO)
    path = tmp_path / FILE
    path.symlink_to(elsewhere)
    with pytest.raises(ParameterError, match="link or a folder"):
        read_people(tmp_path)
    # A link that leads nowhere is not the same as no file.
    elsewhere.unlink()
    with pytest.raises(ParameterError, match="link or a folder"):
        read_people(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ParameterError, match="link or a folder"):
        read_people(tmp_path)
    path.rmdir()
    path.write_text("")
    with pytest.raises(ParameterError, match="Not a directory"):
        read_people(path)
    path.write_bytes(b"people: {\xff: {}}")
    with pytest.raises(ParameterError, match="UnicodeDecodeError"):
        read_people(tmp_path)


def test_the_largest_file_is_read_and_a_byte_order_mark_is_none_of_it(
    tmp_path: Path,
) -> None:
    filled = TWO + "#" * (100_000 - len(TWO))
    assert written(tmp_path, filled).person_of("ann", "mlflow:ann") == "ann"
    assert written(tmp_path, "\ufeff" + TWO).person_of("ann", "mlflow:ann") == "ann"
