"""Files as people have them: each shape is recognised, and what it loses is said by name."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import NoSuchColumn, UnreadableData
from pipelines.rows.misfit import Misfit
from pipelines.rows.reading import FileRows, read_rows_of
from pipelines.values.dataset import Row
from tests.support.row_files import DATA, make_row

USER = {"role": "user", "content": "u"}
ANSWER = {"role": "assistant", "content": "a"}


def read(records: list[dict[str, Any]], **params: Any) -> FileRows:
    data = DATA.model_copy(update=params)
    return read_rows_of(enumerate(records, 1), data, "my.jsonl")


def read_or_refuse(records: list[dict[str, Any]]) -> FileRows | str:
    try:
        return read(records)
    except (NoSuchColumn, UnreadableData) as refused:
        return str(refused)


def turns_of(row: Row) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in row.messages]


def one_row(*turns: dict[str, Any], **more: Any) -> Row:
    return make_row(1, {"messages": list(turns), **more}, DATA)


def reasons_of(file: FileRows) -> list[str]:
    return [row.reason for row in file.quarantine]


@pytest.mark.parametrize(
    ("record", "turns", "sentence"),
    [
        (
            {"instruction": "i", "input": "x", "output": "a"},
            [("user", "i\n\nx")],
            "read as Alpaca: prompt = instruction + input, completion = output",
        ),
        (
            {"instruction": "i", "context": "", "response": "a", "category": "qa"},
            [("user", "i")],
            "read as Alpaca: prompt = instruction, completion = response",
        ),
        (
            {
                "instruction": "i",
                "output": "a",
                "system": "s",
                "history": [["q", "r"]],
            },
            [("system", "s"), ("user", "q"), ("assistant", "r"), ("user", "i")],
            (
                "read as Alpaca: prompt = instruction, completion = output, "
                "system = system, earlier turns = history"
            ),
        ),
        (
            {"Instruction": "i", " Input ": "x", "Output": "a"},
            [("user", "i\n\nx")],
            "read as Alpaca: prompt = Instruction + Input, completion = Output",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "u"},
                    {"from": "gpt", "value": "a"},
                ]
            },
            [("user", "u")],
            "read as ShareGPT: conversations of from/value, the last gpt turn is the answer",
        ),
        (
            {
                "messages": [
                    {"from": "user", "value": "u"},
                    {"from": "assistant", "value": "a"},
                ]
            },
            [("user", "u")],
            "read as ShareGPT: messages of from/value, the last gpt turn is the answer",
        ),
        (
            {"conversations": [USER, ANSWER], "system": "s"},
            [("system", "s"), ("user", "u")],
            (
                "read as OpenAI chat: the last assistant turn in conversations is the answer, "
                "system = system"
            ),
        ),
        (
            {"conversation": json.dumps({"messages": [USER, ANSWER]})},
            [("user", "u")],
            "read as OpenAI chat: the last assistant turn in conversation is the answer",
        ),
        (
            {"prompt": [USER], "completion": [ANSWER]},
            [("user", "u")],
            "read as TRL conversational prompt/completion",
        ),
        (
            {"prompt": [USER], "completion": "a"},
            [("user", "u")],
            "read as TRL conversational prompt/completion",
        ),
        (
            {"prompt": json.dumps([USER]), "completion": json.dumps([ANSWER])},
            [("user", "u")],
            "read as TRL conversational prompt/completion",
        ),
        (
            {"Prompt": "[1] u", "COMPLETION ": "a"},
            [("user", "[1] u")],
            "read as prompt and completion: prompt = Prompt, completion = COMPLETION",
        ),
        # Of a prompt column without completions, and messages that hold both.
        (
            {"prompt": "u", "messages": [USER, ANSWER]},
            [("user", "u")],
            "read as OpenAI chat: the last assistant turn is the answer",
        ),
    ],
)
def test_a_shape_is_recognised_and_named(
    record: dict[str, Any], turns: list[tuple[str, str]], sentence: str
) -> None:
    file = read([record])
    assert reasons_of(file) == []
    assert turns_of(file.rows[0]) == turns
    assert file.rows[0].completion == "a"
    assert file.describe().shape == sentence


def test_every_input_of_an_instruction_makes_a_prompt_of_its_own() -> None:
    records = [
        {
            "instruction": "Swap the words.",
            "input": f"a{number} b",
            "output": f"b a{number}",
        }
        for number in range(30)
    ]
    assert read(records).describe().prompts == 30


def test_an_input_that_only_later_records_have_is_read() -> None:
    first: list[dict[str, Any]] = [{"instruction": "i", "output": "a"}] * 120
    file = read([*first, {"instruction": "i", "input": "x", "output": "b"}])
    assert file.rows[-1].prompt == "i\n\nx"
    assert file.describe().shape == (
        "read as Alpaca: prompt = instruction + input, completion = output"
    )
    assert file.describe().notes == ()


def test_who_names_columns_and_leaves_the_input_out_is_told_so() -> None:
    records = [
        {
            "instruction": "Swap.",
            "input": f"one two three {number}",
            "output": f"{number}",
        }
        for number in range(4)
    ]
    named = {"prompt_column": "instruction", "completion_column": "output"}
    assert read(records, **named).describe().notes == (
        "not used: `input` (text, 4 rows)",
        (
            "1 prompt with several different answers, in 4 rows: `input`, which nothing reads, "
            "may be what tells them apart"
        ),
        "to read `input` as part of the prompt: --set data.shape=alpaca",
    )
    asked = read(records, shape="alpaca", **named)
    assert asked.describe().prompts == 4
    assert asked.describe().notes == ()


def test_columns_that_nothing_reads_are_named_with_what_they_hold() -> None:
    records = [
        {
            "prompt": "p",
            "completion": "c",
            "id": f"x{number}",
            "score": 0.5,
            "tags": ["a"],
            "source": {"url": "u"},
            "good": True,
            "kind": "qa",
            "remark": "Nobody asked for this before.",
            "nothing": "",
            "Prompt": "shadowed by the other one",
        }
        for number in range(3)
    ]
    assert read(records).describe().notes == (
        (
            "not used: `remark` (text, 3 rows), `Prompt` (text, 3 rows), `id` (3 labels, 3 rows), "
            "`score` (1 number, 3 rows), `tags` (lists, 3 rows), `source` (objects, 3 rows), "
            "`good` (true or false, 3 rows), `kind` (1 label, 3 rows)"
        ),
    )


def test_two_shapes_that_give_different_rows_are_refused_until_one_is_chosen() -> None:
    records = [{"prompt": "p", "completion": "c", "messages": [USER, ANSWER]}]
    with pytest.raises(
        UnreadableData,
        match=r"read as prompt and completion and read as OpenAI chat.*different rows\. "
        r"Say which with `--set data\.shape=pairs` or `--set data\.shape=chat`\.$",
    ):
        read(records)
    assert read(records, shape="pairs").rows[0].prompt == "p"
    assert read(records, shape="chat").rows[0].prompt == "u"
    # A named column is a choice too.
    assert read(records, messages_column="messages", shape="chat").rows[0].prompt == "u"


def test_two_shapes_that_give_the_same_rows_are_read_and_both_are_named() -> None:
    file = read([{"prompt": "u", "completion": "a", "messages": [USER, ANSWER]}])
    assert file.describe().shape == (
        "read as prompt and completion; rows without it read as OpenAI chat: the last "
        "assistant turn is the answer (OpenAI chat gives the same rows; "
        "`--set data.shape=chat` reads only that)"
    )


def test_rows_of_two_shapes_in_one_file_are_both_read() -> None:
    file = read(
        [{"prompt": "p", "completion": "c"}, {"messages": [USER, ANSWER]}, {"x": 1}]
    )
    assert [row.prompt for row in file.rows] == ["p", "u"]
    assert reasons_of(file) == ["no column prompt; the record has x"]


def test_a_row_of_another_shape_after_the_first_ones_is_set_aside() -> None:
    records = [{"prompt": "p", "completion": "c"}] * 120
    file = read([*records, {"messages": [USER, ANSWER]}])
    assert len(file.rows) == 120
    assert reasons_of(file) == ["no column prompt; the record has messages"]
    assert file.describe().notes == ("not used: `messages` (lists, 1 row)",)


@pytest.mark.parametrize(
    ("record", "error", "said"),
    [
        (
            {"prompt": "p", "chosen": "a", "rejected": "b"},
            UnreadableData,
            (
                "my.jsonl is preference data (columns chosen and rejected), and Assay learns one "
                "answer to a prompt. To learn the chosen ones alone, "
                "`--set data.completion_column=chosen`."
            ),
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
            UnreadableData,
            "`--set data.messages_column=chosen`.",
        ),
        (
            {"prompt": "u", "chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
            UnreadableData,
            "`--set data.messages_column=chosen`.",
        ),
        (
            {"prompt": "u", "chosen": [ANSWER], "rejected": [ANSWER]},
            UnreadableData,
            "`--set data.completion_column=chosen`.",
        ),
        (
            {"chosen": "Human: u", "rejected": "Human: v"},
            UnreadableData,
            "Give each row a prompt and its better answer.",
        ),
        (
            {"text": "Once there was a fox.", "id": 7},
            NoSuchColumn,
            (
                "only plain text in the column text, and Assay learns answers to prompts. Divide "
                "each text into a prompt and a completion."
            ),
        ),
        (
            {"input": "q", "output": "a"},
            NoSuchColumn,
            "`--set data.prompt_column=input --set data.completion_column=output`.",
        ),
        (
            {"prompt": "q", "solution": "a"},
            NoSuchColumn,
            (
                "has no column completion; it has prompt, solution. Read prompt as the prompt and "
                "solution as the answer with `--set data.completion_column=solution`."
            ),
        ),
        (
            {"My Question": "q", "my answer": "a"},
            NoSuchColumn,
            "Name the right one with `--set data.prompt_column=…`.",
        ),
        (
            {"talk": [USER, ANSWER]},
            NoSuchColumn,
            (
                "Its column talk holds conversations: read them with "
                "`--set data.messages_column=talk`."
            ),
        ),
    ],
)
def test_a_file_of_no_shape_is_refused_with_what_would_read_it(
    record: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        read([record])
    assert said in str(raised.value)


def test_answers_that_are_marked_as_good_or_bad_are_refused_until_all_are_wanted() -> (
    None
):
    records = [
        {"prompt": "p", "completion": "c", "label": good} for good in (True, False)
    ]
    with pytest.raises(
        UnreadableData, match="its column label marks each answer as good"
    ):
        read(records)
    assert len(read(records, shape="pairs").rows) == 2
    # Labels of another kind are labels.
    assert len(read([{**records[0], "label": "spam"}]).rows) == 1


def test_who_names_columns_can_add_what_else_belongs_to_the_prompt() -> None:
    records = [{"question": "q", "context": "x", "system_prompt": "s", "answer": "a"}]
    named = {"prompt_column": "question", "completion_column": "answer"}
    assert read(records, **named).describe().notes[1:] == (
        "to read `context` as part of the prompt: --set data.shape=alpaca",
        "to read `system_prompt` as part of the prompt: --set data.shape=alpaca",
    )
    (row,) = read(records, shape="alpaca", **named).rows
    assert turns_of(row) == [("system", "s"), ("user", "q\n\nx")]
    assert row.completion == "a"


@pytest.mark.parametrize(
    ("record", "params"),
    [
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            {"completion_column": "chosen"},
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
            {"messages_column": "chosen"},
        ),
        (
            {"input": "q", "output": "a"},
            {"prompt_column": "input", "completion_column": "output"},
        ),
        ({"talk": [USER, ANSWER]}, {"messages_column": "talk"}),
        (
            {"prompt": "u", "chosen": [USER, ANSWER], "rejected": [USER, ANSWER]},
            {"messages_column": "chosen"},
        ),
        (
            {"prompt": "u", "chosen": [ANSWER], "rejected": [ANSWER]},
            {"completion_column": "chosen"},
        ),
    ],
)
def test_what_a_refusal_suggests_reads_the_file(
    record: dict[str, Any], params: dict[str, str]
) -> None:
    (row,) = read([record], **params).rows
    assert (len(row.messages), row.completion) == (1, "a")


def test_a_shape_that_the_columns_do_not_have_is_refused() -> None:
    with pytest.raises(NoSuchColumn, match=r"no columns for data\.shape alpaca"):
        read([{"prompt": "p", "completion": "c"}], shape="alpaca")
    with pytest.raises(NoSuchColumn, match="no column talk"):
        read([{"prompt": "p", "completion": "c"}], messages_column="talk")


def test_the_answer_is_the_last_one_of_weight_one() -> None:
    silent = {**ANSWER, "content": "b", "weight": 0}
    row = one_row(USER, {**ANSWER, "weight": 1}, USER, silent)
    assert (turns_of(row), row.completion) == ([("user", "u")], "a")
    # An answer of weight 0 before it is context.
    row = one_row(USER, silent, USER, {**ANSWER, "weight": 1.0})
    assert [content for _, content in turns_of(row)] == ["u", "b", "u"]
    file = read([{"messages": [USER, {**ANSWER, "weight": 1}, USER, silent]}])
    assert file.describe().notes == (
        "1 of 1 row: turns after the last answer of weight 1 are left out",
    )


def test_how_many_earlier_answers_are_not_learned_is_said() -> None:
    file = read(
        [{"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER, USER, ANSWER]}]
    )
    assert file.describe().notes == (
        "1 of 2 rows: earlier answers are context and are not learned",
    )


def test_parts_of_text_are_joined_as_the_endpoint_joins_them() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert one_row({"role": "Developer ", "content": parts}, USER, ANSWER).messages[
        0
    ].model_dump() == {"role": "system", "content": "one two"}


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        (
            [USER],
            "column messages does not end with an assistant's answer, but with a turn of role user",
        ),
        ([ANSWER], "column messages has no turn of a user before the answer"),
        (
            [{"role": "system", "content": "s"}],
            (
                "column messages does not end with an assistant's answer, "
                "but with a turn of role system"
            ),
        ),
        (
            [USER, {**ANSWER, "weight": 0}],
            "column messages has weight 0 on every answer: none is to be learned",
        ),
        (
            [USER, {**ANSWER, "weight": 0.5}],
            "column messages holds a weight of 0.5, where 0 or 1 is meant",
        ),
        (
            [USER, {"role": "tool", "content": "t"}, ANSWER],
            "column messages holds a turn of role tool: turns with tools are not read",
        ),
        (
            [
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "f"}},
            ],
            "column messages holds function_call: turns with tools are not read",
        ),
        (
            [USER, {"role": "assistant", "content": None, "refusal": "No."}],
            "column messages holds a turn with refusal: only text is read",
        ),
        (
            [
                {"role": "user", "content": [{"type": "image_url", "image_url": {}}]},
                ANSWER,
            ],
            "column messages holds a part of content that is image_url: only text is read",
        ),
        (
            [{"role": "user", "content": 5}, ANSWER],
            "column messages holds a message whose content is of type int, not text",
        ),
        (
            [{"role": "user", "content": []}, ANSWER],
            "column messages holds a message with an empty list as content",
        ),
        (
            [{"role": "user", "text": "u"}, ANSWER],
            "column messages holds a message without content or value; it has text",
        ),
        (
            [{"role": "god", "content": "u"}, ANSWER],
            "column messages holds a turn of role god, which is none of system, user and assistant",
        ),
        (
            [["user", "u"], ["assistant", "a"]],
            (
                "column messages holds something that is not a message with a role and a content: "
                "it is of type list"
            ),
        ),
        (
            [{"role": "user", "Role": "x", "content": "u"}, ANSWER],
            "column messages holds a message with two keys role",
        ),
        ([], "column messages is an empty list of messages"),
    ],
)
def test_a_conversation_that_cannot_be_learned_names_what_is_in_the_way(
    turns: list[Any], reason: str
) -> None:
    file = read([{"messages": turns}])
    assert file.rows == []
    assert reasons_of(file) == [reason]


def test_a_system_column_beside_another_system_turn_is_not_dropped() -> None:
    turns = [{"role": "system", "content": "s"}, USER, ANSWER]
    assert turns_of(one_row(*turns, system="s")) == [("system", "s"), ("user", "u")]
    with pytest.raises(Misfit, match="are two system texts"):
        one_row(*turns, system="another")


def test_a_system_text_that_a_user_repeats_is_not_dropped() -> None:
    turns = [{"role": "user", "content": "s"}, ANSWER]
    assert turns_of(one_row(*turns, system="s")) == [("system", "s"), ("user", "s")]


def test_a_list_as_python_prints_it_is_named_as_such() -> None:
    file = read([{"messages": str([USER, ANSWER])}])
    assert reasons_of(file) == [
        "column messages holds a list as Python prints it, not JSON: write it with json.dumps"
    ]


def test_keys_beside_an_inner_list_of_messages_are_said() -> None:
    file = read([{"conversation": {"id": 7, "messages": [USER, ANSWER]}}])
    assert file.describe().notes == (
        "1 of 1 row: the key id beside the messages is not used",
    )


def test_the_parts_of_gemini_are_text() -> None:
    turns = [
        {"role": "user", "parts": [{"text": "u"}]},
        {"role": "model", "parts": [{"text": "a"}]},
    ]
    file = read([{"contents": turns}])
    assert [(row.prompt, row.completion) for row in file.rows] == [("u", "a")]


ODD_VALUES: list[Any] = [
    None,
    "",
    "  ",
    7,
    1.5,
    float("nan"),
    True,
    "null",
    "[]",
    "{",
    "[[]]",
    '[{"role": "user"}]',
    [],
    {},
    [[]],
    [None],
    [{}],
    [{"role": None}],
    {"messages": 3},
    "\u202e",
    "\ud800",
    10**400,
]
KEYS = ["prompt", "Prompt ", "completion", "messages", "instruction", "input", "output"]
KEYS += [
    "\nprompt",
    "conversations",
    "chosen",
    "system",
    "history",
    "group",
    "",
    "text",
]
TURN_KEYS = ["role", "from", "content", "value", "weight", "tool_calls", "name"]
ROLES = ["user", "Assistant", "human", "gpt", "tool", "developer", "system", 3, None]
GOOD = [
    {"prompt": "p", "completion": "c"},
    {"messages": [USER, ANSWER]},
    {"instruction": "i", "input": "x", "output": "o"},
    {"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]},
    {"prompt": [USER], "completion": [ANSWER]},
]

odd = st.sampled_from(ODD_VALUES)
turn = st.dictionaries(
    st.sampled_from(TURN_KEYS),
    st.one_of(odd, st.sampled_from(ROLES), st.text(max_size=3)),
)
conversation = st.lists(
    st.one_of(turn, st.sampled_from([USER, ANSWER]), odd), max_size=4
)
bad_record = st.dictionaries(
    st.sampled_from(KEYS), st.one_of(odd, conversation, st.text(max_size=5)), max_size=6
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    good=st.sampled_from(GOOD),
    bad=st.lists(bad_record, max_size=12),
    seed=st.integers(0, 1000),
)
def test_every_record_is_a_row_or_has_a_reason(
    good: dict[str, Any], bad: list[dict[str, Any]], seed: int
) -> None:
    records = [good] * 8 + bad
    random.Random(seed).shuffle(records)
    file = read_or_refuse(records)
    if isinstance(file, str):
        # One sentence for the file, without what a terminal cannot print.
        assert file.isprintable()
        return
    reading = file.describe()
    assert reading.records == len(records)
    assert reading.rows + sum(reading.set_aside.values()) == len(records)
    assert all(reading.set_aside)
    numbers = [row.number for row in file.rows] + [
        row.number for row in file.quarantine
    ]
    assert sorted(numbers) == list(range(1, len(records) + 1))
    assert all(line.isprintable() for line in reading.lines)
    reading.model_dump_json()


@settings(max_examples=60, deadline=None)
@given(bad=st.lists(bad_record, max_size=6), good=st.sampled_from(GOOD))
def test_odd_records_after_a_hundred_good_ones_lose_no_good_one(
    bad: list[dict[str, Any]], good: dict[str, Any]
) -> None:
    file = read([good] * 100 + bad + [good])
    numbers = {row.number for row in file.rows}
    assert numbers >= {*range(1, 101), 101 + len(bad)}
