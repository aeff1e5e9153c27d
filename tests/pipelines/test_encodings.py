"""Texts in every encoding, and what is said of a guess."""

import json
from pathlib import Path

import pytest

from core.errors import UnreadableData
from pipelines.rows.formats import describe_lost_characters
from pipelines.values.dataset import QuarantinedRow
from tests.support.row_files import read

TEXTS = ["naïve café", "“quoted” – 5 €", "plain"]
JSON = "\n".join(json.dumps({"prompt": text}, ensure_ascii=False) for text in TEXTS)
CSV = "prompt,completion\n" + "".join(f"{text},c\n" for text in TEXTS)


@pytest.mark.parametrize("text", [JSON, CSV, f"[{JSON.replace(chr(10), ',')}]"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_recognised_with_a_mark_and_without(
    tmp_path: Path, encoding: str, mark: str, text: str
) -> None:
    reading = read(tmp_path / "rows", (mark + text).encode(encoding))
    assert [record["prompt"] for record in reading.records.values()] == TEXTS
    assert reading.reasons == {}
    # A mark is no guess.
    is_guess = not mark and encoding != "utf-8"
    assert ("set data.encoding" in reading.notes[0]) == is_guess


def test_utf_16_of_letters_that_have_no_zeros_is_recognised(tmp_path: Path) -> None:
    text = "\n".join(
        json.dumps({"prompt": f"旧杯子放在桌子上面{n}"}, ensure_ascii=False)
        for n in range(9)
    )
    reading = read(tmp_path / "rows", text.encode("utf-16-le"))
    assert len(reading.records) == 9


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text",
    [
        "prompt,completion\n" + "这是一个很长的问题,一一一一\n" * 30,
        "prompt\nplain\ntext\n",
        "ab\n一\n",
    ],
)
def test_utf_16_under_a_header_of_ascii_is_recognised(
    tmp_path: Path, encoding: str, text: str
) -> None:
    reading = read(tmp_path / "rows", text.encode(encoding))
    assert len(reading.records) == text.count("\n") - 1
    assert "in UTF-16, which is a guess" in reading.notes[0]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_half_a_character_of_utf_16_sets_its_own_row_aside(
    tmp_path: Path, encoding: str
) -> None:
    lines = ['{"prompt": "a"}\n', '{"prompt": "\ud800"}\n', '{"prompt": "b"}\n']
    content = "".join(["\ufeff", *lines]).encode(encoding, "surrogatepass")
    reading = read(tmp_path / "rows", content)
    assert reading.records == {1: {"prompt": "a"}, 3: {"prompt": "b"}}
    assert reading.reasons == {2: "invalid UTF-16"}
    reading = read(tmp_path / "rows", content + b"{")
    assert list(reading.reasons) == [2, 4]


@pytest.mark.parametrize(
    ("encoding", "name", "texts"),
    [
        (
            "cp1252",
            "Windows-1252",
            ["Wie groß ist München?", "Übung", "Grüße aus Köln"],
        ),
        ("cp1252", "Windows-1252", ["Où est le café?", "L'été est passé", "garçon"]),
        ("cp1252", "Windows-1252", ["That’s “it”", "5 €", "a – b"]),
        ("cp1252", "Windows-1252", ["Não há coração", "informação é ótima", "pão"]),
        ("cp1251", "Windows-1251", ["Привет, как дела", "Сколько стоит?", "Погода"]),
        ("cp1250", "Windows-1250", ["Příliš žluťoučký kůň", "ďábelské ódy", "úpěl"]),
        ("cp1251", "Windows-1251", ["Как дела?", "Хорошо, спасибо", "У меня всё"]),
        ("iso8859_5", "iso8859_5", ["Как дела?", "Хорошо, спасибо", "У меня всё"]),
        ("mac_cyrillic", "mac_cyrillic", ["Как дела?", "Хорошо", "У меня всё"]),
        ("cp866", "cp866", ["Как дела?", "Хорошо, спасибо", "У меня всё"]),
        ("iso8859_2", "iso8859_2", ["Jak se máš?", "Dobře, děkuji", "žluťoučký kůň"]),
        ("iso8859_15", "iso8859_15", ["œuvre complète", "Cœur à 5 €", "sœur"]),
        ("cp1253", "Windows-1253", ["Καλημέρα κόσμε", "Πού είναι", "η θάλασσα"]),
        ("cp932", "cp932", ["今日はいい天気ですね", "東京はどこですか", "カタカナ"]),
        ("gb18030", "gb18030", ["今天天气很好", "北京在哪里", "旧杯子放在桌子上面"]),
    ],
)
def test_a_code_page_is_guessed_and_said(
    tmp_path: Path, encoding: str, name: str, texts: list[str]
) -> None:
    text = "prompt;completion\n" + "".join(f"{text};c\n" for text in texts * 5)
    reading = read(tmp_path / "rows", text.encode(encoding))
    assert [record["prompt"] for record in reading.records.values()] == texts * 5
    note = f"CSV with semicolons in {name}, which is a guess: set data.encoding to say"
    assert note in reading.notes[0]


def test_an_encoding_that_a_person_names_is_taken(tmp_path: Path) -> None:
    text = "".join(f'{{"prompt": "{word}"}}\n' for word in ("ő", "ű", "ő"))
    reading = read(tmp_path / "rows", text.encode("cp1250"), encoding="cp1250")
    assert reading.records[2] == {"prompt": "ű"}
    assert reading.notes == ("rows: read as JSON lines in Windows-1250",)
    for mark in ("\ufeff", ""):
        content = (mark + text).encode("utf-16-le")
        assert read(tmp_path / "rows", content, encoding="utf-16").records[1] == {
            "prompt": "ő"
        }


def test_a_byte_that_a_code_page_does_not_know_sets_its_row_aside(
    tmp_path: Path,
) -> None:
    content = b"prompt,completion\ncaf\xe9,c\nx\x81y,c\nna\xefve,c\n"
    reading = read(tmp_path / "rows", content, encoding="cp1252")
    assert list(reading.records) == [1, 3]
    assert reading.reasons == {2: "invalid Windows-1252"}


def test_damaged_lines_of_utf_8_do_not_make_it_a_code_page(tmp_path: Path) -> None:
    good = [f'{{"prompt": "café {n}"}}'.encode() for n in range(50)]
    bad = [f'{{"prompt": "café {n}"}}'.encode("cp1252") for n in range(6)]
    reading = read(tmp_path / "rows", b"\n".join([*good, *bad]))
    assert list(reading.records) == list(range(1, 51))
    assert reading.records[1] == {"prompt": "café 0"}
    assert list(reading.reasons) == list(range(51, 57))
    assert "some lines are UTF-8 and some are not" in reading.notes[1]


@pytest.mark.parametrize("shape", ["lines", "list"])
@pytest.mark.parametrize("chunk", [5, 1 << 18])
def test_a_line_of_utf_8_in_a_file_of_a_code_page_is_read_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: str, chunk: int
) -> None:
    monkeypatch.setattr("pipelines.rows.files.lines.CHUNK", chunk)
    texts = [f"größer, café {number}" for number in range(104)]
    rows = []
    for number, text in enumerate(texts):
        encoding = "utf-8" if number % 12 == 0 else "cp1252"
        rows.append(f'{{"prompt": "{text}"}}'.encode(encoding))
    content = b"\n".join(rows)
    if shape == "list":
        content = b"[" + b",".join(rows) + b"]"
    reading = read(tmp_path / "rows", content)
    assert [record["prompt"] for record in reading.records.values()] == texts
    _, words, mixture = reading.notes
    assert "words such as größer, café" in words
    assert "9 of 104 lines beyond ASCII are UTF-8 and read as such" in mixture


def test_one_line_in_another_encoding_is_said(tmp_path: Path) -> None:
    good = [f'{{"prompt": "café {n}"}}'.encode() for n in range(500)]
    reading = read(tmp_path / "rows", b"\n".join([*good, b'{"prompt": "caf\xe9"}']))
    assert list(reading.reasons) == [501]
    assert "500 of 501 lines beyond ASCII are UTF-8" in reading.notes[1]


def test_a_guess_shows_words_and_in_how_many_lines_it_matters(tmp_path: Path) -> None:
    text = "prompt,completion\nplain,c\n" + "Привет,погода\nСколько,c\n" * 10
    reading = read(tmp_path / "rows", text.encode("cp1251"))
    assert reading.notes[1] == (
        "rows: 20 lines beyond ASCII, read by that guess with words such as Привет, погода, "
        "Сколько; wrong words are a wrong encoding"
    )
    told = read(tmp_path / "rows", text.encode("cp1251"), encoding="cp1251")
    assert len(told.notes) == 1


def test_the_whole_file_is_judged_and_not_its_beginning(tmp_path: Path) -> None:
    ascii_rows = b'{"prompt": "plain"}\n' * 40_000
    odd_rows = '{"prompt": "größer"}\n'.encode("cp1252") * 3
    reading = read(tmp_path / "rows", ascii_rows + odd_rows)
    assert len(reading.records) == 40_003
    assert reading.records[40_003] == {"prompt": "größer"}


def test_characters_on_the_border_of_two_chunks_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.rows.files.lines.CHUNK", 3)
    monkeypatch.setattr("pipelines.rows.files.encodings.CHUNK", 5)
    for encoding in ("utf-8", "utf-16", "gb18030"):
        text = "\n".join(f'{{"prompt": "今天天气很好😀{n}"}}' for n in range(9))
        reading = read(tmp_path / "rows", text.encode(encoding), encoding=encoding)
        assert reading.records[9] == {"prompt": "今天天气很好😀8"}
        assert reading.reasons == {}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_json_lines_end_as_lines_of_every_system_do(tmp_path: Path, end: str) -> None:
    content = end.join([JSON.split("\n")[0], "", "{", '{"prompt": "p"}'])
    reading = read(tmp_path / "rows", content.encode())
    assert list(reading.records) == [1, 4]
    assert list(reading.reasons) == [3]


def test_rows_that_are_lost_for_an_accent_are_no_random_loss() -> None:
    def row(reason: str) -> QuarantinedRow:
        return QuarantinedRow(number=1, id=None, reason=reason, excerpt="")

    assert describe_lost_characters([row("no column prompt")]) == ()
    (sentence,) = describe_lost_characters(
        [row("invalid UTF-8 (at byte 3)"), row("invalid UTF-8"), row("x")]
    )
    assert sentence.startswith("2 rows were set aside for characters beyond ASCII")
    assert "no random loss" in sentence
    assert "data.encoding" in sentence


def test_a_text_in_no_encoding_is_refused(tmp_path: Path) -> None:
    content = b"prompt,completion\n" + bytes(range(0x80, 0x100)) * 2 + b"\x81,x\n" * 9
    with pytest.raises(UnreadableData, match=r"data\.encoding|binary data"):
        read(tmp_path / "rows", content)


def test_utf_16_with_few_zeros_is_recognised_and_zeros_in_utf_8_are_no_utf_16(
    tmp_path: Path,
) -> None:
    text = "问,答\n" + f"{'旧杯子放在桌子上面' * 40},{'天气' * 100}\n" * 9
    for encoding in ("utf-16-le", "utf-16-be"):
        assert len(read(tmp_path / "rows", text.encode(encoding)).records) == 9
    for place in range(4):
        blanks = " " * place
        content = f'{{"prompt":{blanks} "a\0b"}}\n{{"prompt": "p"}}\n'.encode()
        reading = read(tmp_path / "rows", content)
        assert list(reading.reasons) == [1]
        assert reading.records == {2: {"prompt": "p"}}


def test_a_list_on_one_line_is_judged_by_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pieces of the line must not cut a character.
    monkeypatch.setattr("pipelines.rows.files.encodings.CHUNK", 50)
    rows = [{"prompt": f"größer {number}, 旧杯子放在桌子上面"} for number in range(99)]
    content = json.dumps(rows, ensure_ascii=False).encode()
    reading = read(tmp_path / "rows", content)
    assert len(reading.records) == 99
    assert reading.notes == ("rows: read as a JSON list",)
    rows = [{"prompt": f"größer, für {number}"} for number in range(99)]
    content = json.dumps(rows, ensure_ascii=False).encode("cp1252")
    reading = read(tmp_path / "rows", content)
    assert reading.records[99] == {"prompt": "größer, für 98"}
    assert "a JSON list in Windows-1252, which is a guess" in reading.notes[0]
    reading = read(tmp_path / "rows", json.dumps(rows[:3]).encode()[:-1] + b', "\xfc"]')
    assert list(reading.records) == [1, 2, 3]
    assert reading.reasons == {4: "invalid UTF-8 (at byte 2)"}


def test_a_header_that_does_not_decode_is_refused_and_can_be_helped(
    tmp_path: Path,
) -> None:
    content = "prompt,réponse\na,b\n".encode("cp1252")
    with pytest.raises(UnreadableData, match=r"header line of invalid UTF-8.*encoding"):
        read(tmp_path / "rows", content)
    reading = read(tmp_path / "rows", content, encoding="cp1252")
    assert reading.records == {1: {"prompt": "a", "réponse": "b"}}
