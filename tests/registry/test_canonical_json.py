"""Entries are hashed over RFC 8785, and those that Assay hashed before that still verify."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from core.errors import BrokenLedger, LedgerError
from pipelines.values.canary import CanaryLimits
from registry.ledger.audit import (
    KnownHead,
    find_lost_heads,
    known_heads,
    restore_ledger,
    verify,
    verify_export,
)
from registry.ledger.canonical import (
    LARGEST_INTEGER,
    accepted_forms,
    canonical_json,
    earlier_json,
)
from registry.ledger.chain import body_text, entry_hash, follow, is_hashed
from registry.ledger.entries import (
    Body,
    Entry,
    HeadAccepted,
    LostHead,
    ReleaseBegun,
    body_document,
)
from registry.ledger.ledger import Ledger, _row, open_ledger, read_ledger
from tests.support.ledgers import Chain, begun, frozen, judged

DATA = Path(__file__).parent / "data"
EXPORT = DATA / "export_before_rfc8785.jsonl"
"""A ledger with every kind of entry, as `assay audit export --with-reasons` wrote it before."""
ROWS = DATA / "rows_before_rfc8785.jsonl"
"""The rows of its table `entries`."""
BODY: TypeAdapter[Body] = TypeAdapter(Body)
KINDS = {
    name: model
    for name, model in BODY.json_schema()["$defs"].items()
    if "kind" in model["properties"]
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ASSAY_LEDGER_URL", raising=False)
    return tmp_path / "home"


def rows_before() -> list[dict[str, Any]]:
    with ROWS.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def entries_before() -> list[Entry]:
    with EXPORT.open(encoding="utf-8", newline="\n") as texts:
        lines = [json.loads(text) for text in texts]
    return [Entry.model_validate(line["entry"]) for line in lines if "entry" in line]


def with_share(share: float, **spec: object) -> ReleaseBegun:
    body = begun(2)
    release = body.release.model_copy(
        update={
            "known_answers_share": share,
            "spec": body.release.spec.model_copy(update=spec),
        }
    )
    return body.model_copy(update={"release": release})


# Where the two forms can differ: by what the models can hold, then by every such value.


def test_a_body_has_no_keys_but_the_names_of_fields_so_that_their_order_is_one() -> (
    None
):
    for name, model in BODY.json_schema()["$defs"].items():
        assert model["additionalProperties"] is False, name
        assert all(key.isascii() for key in model["properties"]), name


def test_the_only_fields_that_the_two_forms_may_write_differently_are_numbers() -> None:
    numbers = set(_typed_fields("number"))
    of_intervals = {"Interval.estimate", "Interval.low", "Interval.high"}
    shares = {"Release.known_answers_share", "BlockOpened.level"}
    assert numbers == shares | of_intervals
    assert set(_typed_fields("integer")) == {
        "BlockClosed.opened",
        "BlockOpened.number",
        "OriginConfirmation.generation",
        *(f"CanaryLimits.{name}" for name in CanaryLimits.model_fields),
        "CanaryPaused.begun",
        "CanaryPlan.alpha_percent",
        "CanaryPlan.bake_s",
        "CanaryPlan.copied_percent",
        "CanaryPlan.least_requests",
        "CanaryPlan.max_pause_s",
        "CanaryPlan.max_step_s",
        "CanaryPlan.weights",
        "CanaryPlan.window_s",
        "CanaryResumed.begun",
        "CanarySkipped.begun",
        "CanaryStep.begun",
        "CanaryStep.weight",
        "Judged.approvals_asked",
        "Judged.registration",
        "Judged.waivers",
        "ModelRated.items",
        "ModelRated.opened",
        "LostHead.generation",
        "Rated.opened",
        "Rated.prompts",
        "Rated.raters",
        "OriginHead.generation",
        "Received.entered_there",
        "Release.drawn_answers",
        "Release.replica_quorum",
        "ReleaseAborted.begun",
        "ReleaseAborted.wished",
        "ReleaseBegun.judged",
        "ReleaseBegun.wished",
        "ReleaseCompleted.begun",
        "ReleaseSwitched.begun",
        "RolledBack.to",
        "RolledBack.wished",
        "ServingSpec.default_max_tokens",
        "WishClosed.wished",
        "Rescored.begun",
        "Rescored.against",
    }


def _typed_fields(kind: str) -> Iterator[str]:
    for name, model in BODY.json_schema()["$defs"].items():
        for field, schema in model["properties"].items():
            if f'"type": "{kind}"' in json.dumps(schema):
                yield f"{name}.{field}"


any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100)
shares = st.floats(min_value=0, max_value=1, exclude_min=True)
integers = st.integers(min_value=0, max_value=2 * LARGEST_INTEGER)


@given(by=any_text, precision=any_text, share=shares, tokens=integers)
def test_both_forms_are_the_same_text_but_for_some_numbers(
    by: str, precision: str, share: float, tokens: int
) -> None:
    body = with_share(share, precision=precision, default_max_tokens=tokens)
    document = body_document(body.model_copy(update={"by": by}))
    # Python writes 1.0, and exponents of one digit with a zero in front.
    is_same = 1e-4 <= share < 1 or share < 1e-9
    if tokens > LARGEST_INTEGER:
        assert accepted_forms(document) == (earlier_json(document),)
    else:
        assert (canonical_json(document) == earlier_json(document)) is is_same


@given(by=any_text, precision=any_text, share=shares, tokens=integers)
def test_each_form_reads_back_as_the_body_that_it_was_written_from(
    by: str, precision: str, share: float, tokens: int
) -> None:
    body = with_share(share, precision=precision, default_max_tokens=tokens)
    body = body.model_copy(update={"by": by})
    for text in accepted_forms(body_document(body)):
        assert BODY.validate_python(json.loads(text)) == body


def test_half_a_character_gets_into_no_body() -> None:
    document = body_document(frozen()) | {"by": "\ud800"}
    with pytest.raises(ValueError, match="unicode"):
        BODY.validate_python(document)
    with pytest.raises(LedgerError, match="no canonical JSON"):
        canonical_json(document)


@pytest.mark.parametrize(
    ("share", "canonical", "earlier"),
    [
        (1.0, "1", "1.0"),
        (0.75, "0.75", "0.75"),
        (0.0001, "0.0001", "0.0001"),
        (0.00001, "0.00001", "1e-05"),
        (1e-7, "1e-7", "1e-07"),
        (1.5e-7, "1.5e-7", "1.5e-07"),
        (5e-324, "5e-324", "5e-324"),
    ],
)
def test_numbers_as_ecmascript_and_as_python_write_them(
    share: float, canonical: str, earlier: str
) -> None:
    assert canonical_json({"share": share}) == f'{{"share":{canonical}}}'
    assert earlier_json({"share": share}) == f'{{"share":{earlier}}}'


# New entries.


def test_a_new_entry_is_hashed_over_rfc_8785_of_its_parts() -> None:
    chain = Chain()
    chain.add(judged(), with_share(1.0))
    document = chain.entries[-1].model_dump(mode="json")
    parts = {
        "generation": 3,
        "at": "2026-11-01T12:00:02.000000+00:00",
        "body": body_document(chain.entries[-1].body),
        "previous": document["previous"],
        "key_id": document["key_id"],
    }
    text = rfc8785.dumps(parts)
    assert b'"known_answers_share":1,' in text
    assert document["hash"] == hashlib.sha256(text).hexdigest()


def test_a_row_is_written_in_rfc_8785_and_read_back(home: Path) -> None:
    ledger = open_ledger(home)
    ledger.append(with_share(1.0), ledger.append(judged(), ledger.state()))
    with closing(sqlite3.connect(home / "ledger.db")) as connection:
        rows = connection.execute("SELECT body FROM entries").fetchall()
    assert '"known_answers_share":1,' in rows[-1][0]
    assert verify(read_ledger(home)).whole_up_to == 3


@pytest.mark.parametrize(
    "body",
    [
        with_share(0.9, default_max_tokens=LARGEST_INTEGER + 1),
        HeadAccepted(
            by="olga",
            reason_sha256="0" * 64,
            lost=(LostHead(generation=LARGEST_INTEGER + 1, hash="0" * 64),),
        ),
    ],
)
def test_a_number_that_rfc_8785_has_no_form_for_is_not_written(
    home: Path, body: Body
) -> None:
    ledger = open_ledger(home)
    ledger_state = ledger.append(judged(), ledger.state())
    with pytest.raises(LedgerError, match="Numbers may reach 9007199254740991"):
        ledger.append(body, ledger_state)
    assert ledger.state() == ledger_state


def test_a_page_cannot_name_an_entry_whose_loss_could_not_be_accepted() -> None:
    last = f"{LARGEST_INTEGER}:{'a' * 64}"
    assert KnownHead.from_tag(last, "the page").generation == LARGEST_INTEGER
    with pytest.raises(LedgerError, match="names no entry of a ledger"):
        KnownHead.from_tag(f"{LARGEST_INTEGER + 1}:{'a' * 64}", "the page")


def test_an_export_cannot_name_such_an_entry_and_other_losses_can_be_accepted(
    home: Path,
) -> None:
    ledger = open_ledger(home)
    exports = home / "exports"
    exports.mkdir(exist_ok=True)
    head = {"ledger_id": "x", "generation": LARGEST_INTEGER + 1, "hash": "a" * 64}
    (exports / "x.jsonl").write_text(json.dumps({"head": head}) + "\n")
    known, notes = known_heads(home)
    assert all(head.where != "the export x.jsonl" for head in known)
    assert any("x.jsonl" in note for note in notes)
    assert find_lost_heads(ledger, ledger.state(), known) == ()


# Entries from before.


def test_the_ledger_from_before_has_every_kind_and_numbers_of_both_forms() -> None:
    entries = entries_before()
    kinds = {model["properties"]["kind"]["const"] for model in KINDS.values()}
    later = {"wished", "wish_closed", "approved", "approval_withdrawn", "rescored"}
    later |= {"received", "origin_seen", "block_opened", "block_closed"}
    later |= {"received", "origin_seen", "review_opened", "rated", "model_rated"}
    later |= {kind for kind in kinds if kind.startswith("canary_")}
    assert {entry.body.kind for entry in entries} == kinds - later
    differing = [
        entry.generation
        for entry in entries
        if len(set(accepted_forms(body_document(entry.body)))) > 1
    ]
    without_canonical = [
        entry.generation
        for entry in entries
        if len(accepted_forms(body_document(entry.body))) == 1
    ]
    assert (differing, without_canonical) == ([3], [8])


def test_an_export_from_before_verifies() -> None:
    report = verify_export(EXPORT)
    assert (report.is_whole, report.whole_up_to) == (True, 23)


def test_rows_from_before_verify_and_read_back_byte_for_byte(home: Path) -> None:
    ledger = _with_rows(home, rows_before())
    assert verify(ledger).whole_up_to == 23
    assert [_row(entry) for entry in ledger.entries()] == rows_before()


def _with_rows(home: Path, rows: list[dict[str, Any]]) -> Ledger:
    """Rows exactly as the earlier code left them in the table."""
    restore_ledger(EXPORT, home)
    columns = ", ".join(f":{name}" for name in rows[0])
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER entries_no_delete")
        database.execute("DELETE FROM entries")
        database.executemany(f"INSERT INTO entries VALUES ({columns})", rows)  # noqa: S608 - names of columns
    return read_ledger(home)


def test_a_ledger_restored_from_an_export_from_before_has_the_rows_from_before(
    home: Path,
) -> None:
    restored = restore_ledger(EXPORT, home)
    with restored.database.reading() as connection:
        import sqlalchemy as sa

        rows = connection.execute(sa.text("SELECT * FROM entries ORDER BY generation"))
        assert [dict(row) for row in rows.mappings()] == rows_before()
    # What was restored already is not an obstacle to a second try.
    assert restore_ledger(EXPORT, home).entries() == restored.entries()


def test_entries_from_before_are_followed_by_entries_in_rfc_8785() -> None:
    chain = Chain()
    chain.add(judged())
    earlier = with_share(1.0)
    _add_as_before(chain, earlier)
    chain.add(*(frozen(), judged("2")))
    assert follow(None, chain.entries) == chain.ledger_state
    assert '"known_answers_share":1.0,' in body_text(chain.entries[2])


def _add_as_before(chain: Chain, body: Body) -> None:
    """Sign and add an entry as the earlier code did."""
    entry = signed_as_before(chain, body)
    chain.ledger_state = follow(chain.ledger_state, (entry,))
    chain.entries.append(entry)


def signed_as_before(chain: Chain, body: Body) -> Entry:
    head = chain.ledger_state.head
    parts = {
        "generation": head.generation + 1,
        "at": "2026-11-01T13:00:00.000000+00:00",
        "body": body_document(body),
        "previous": head.hash,
        "key_id": chain.key.public.key_id,
    }
    digest = hashlib.sha256(earlier_json(parts).encode()).hexdigest()
    signed = {"hash": digest, "signature": chain.key.sign(digest)}
    return Entry.model_validate(parts | signed)


# No forger gains by it.


@pytest.mark.parametrize("share", [1.0, 0.9, 0.00001])
def test_an_edited_entry_from_before_is_in_neither_form_what_was_hashed(
    share: float,
) -> None:
    chain = Chain()
    chain.add(judged())
    entry = signed_as_before(chain, with_share(share))
    edited = entry.model_copy(update={"body": with_share(0.5)})
    with pytest.raises(BrokenLedger, match="its contents are not what was hashed"):
        follow(chain.ledger_state, (edited,))


def test_an_entry_from_before_that_is_hashed_again_lacks_a_signature() -> None:
    chain = Chain()
    chain.add(judged())
    entry = signed_as_before(chain, with_share(1.0))
    again = entry.model_copy(update={"hash": entry_hash(entry)})
    assert again.hash != entry.hash
    assert is_hashed(again)
    with pytest.raises(BrokenLedger, match="its signature is not of key"):
        follow(chain.ledger_state, (again,))


@pytest.mark.parametrize(
    ("generation", "text", "other"),
    [
        (3, '"known_answers_share":1.0,', '"known_answers_share":1,'),
        (3, '"known_answers_share":1.0,', '"known_answers_share":1e0,'),
        (14, '"known_answers_share":0.9,', '"known_answers_share":0.90,'),
        (18, '"by":"olga"', '"by": "olga"'),
        (18, '"by":"olga"', '"by":"eve","by":"olga"'),
    ],
)
def test_a_row_that_reads_as_the_same_entry_but_is_other_text_is_named(
    home: Path, generation: int, text: str, other: str
) -> None:
    rows = rows_before()
    body = rows[generation - 1]["body"]
    assert text in body
    rows[generation - 1]["body"] = body.replace(text, other)
    report = verify(_with_rows(home, rows))
    assert report.bad_entry == generation
    assert "not written as Assay writes" in (report.problem or "")


def test_a_new_row_in_the_earlier_form_is_named(home: Path) -> None:
    ledger = open_ledger(home)
    ledger.append(with_share(1.0), ledger.append(judged(), ledger.state()))
    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as database:
        database.execute("DROP TRIGGER entries_no_update")
        database.execute(
            "UPDATE entries SET body = replace(body, 'share\":1,', 'share\":1.0,')"
        )
    report = verify(read_ledger(home))
    assert report.bad_entry == 3
    assert "not written as Assay writes" in (report.problem or "")


def test_a_number_that_was_put_into_a_row_from_before_does_not_end_the_audit(
    home: Path,
) -> None:
    rows = rows_before()[:3]
    rows[2]["generation"] = 2**60
    report = verify(_with_rows(home, rows))
    assert report.bad_entry == 3
    assert "edited" in (report.problem or "")
