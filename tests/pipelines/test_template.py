"""A template renders tomorrow what was scored today, or it is refused by name."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import UnusableBaseModel
from pipelines.models.chat import load_tokenizer
from pipelines.models.template import RenderingError, find_ending, fix_template, render
from tests.support.tiny import CHAT_TEMPLATE, make_tiny_base

DAY = date(2024, 7, 6)
HEAD = "{% for m in messages %}<{{ m.role }}>"
TURNS = HEAD + "{{ m.content }}|{% endfor %}"
GO = "{% if add_generation_prompt %}<assistant>{% endif %}"
DATED = "{{ strftime_now('%d %b %Y') }} " + TURNS + GO
# A thought in front of the last answer, and an opened one at the end of a prompt.
THINKING = (
    HEAD + "{% if m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant><think>\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
ASKED = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_tokenizer(make_tiny_base(tmp_path_factory.mktemp("tiny")))


def test_a_template_without_date_and_thoughts_stays_as_it_is(tokenizer: Any) -> None:
    fixed = fix_template(tokenizer, CHAT_TEMPLATE, DAY)
    assert (fixed.text, fixed.notes) == (CHAT_TEMPLATE, ())
    assert find_ending(tokenizer, fixed.text) == "<|im_end|>\n"


def test_a_dated_template_renders_the_fixed_day(tokenizer: Any) -> None:
    fixed = fix_template(tokenizer, DATED, DAY)
    assert render(tokenizer, fixed.text, ASKED) == "06 Jul 2024 <user>hello|"
    assert fixed.notes == ("its date is fixed at 2024-07-06",)


@settings(max_examples=25, deadline=None)
@given(
    day=st.dates(min_value=date(1000, 1, 1)),
    form=st.lists(
        st.sampled_from(
            ["%d", "%-d", "%B", "%b", "%Y", "%m", "%H", "%%", "%j", " ", "d"]
        ),
        min_size=1,
        max_size=6,
    ).map("".join),
)
def test_every_form_of_a_date_is_that_of_strftime(
    tokenizer: Any, day: date, form: str
) -> None:
    template = f"{{{{ strftime_now({form!r}) }}}}{TURNS}{GO}"
    rendered = render(tokenizer, fix_template(tokenizer, template, day).text, ASKED)
    assert rendered == f"{day.strftime(form)}<user>hello|"


def test_thoughts_are_switched_off_where_answers_have_none(tokenizer: Any) -> None:
    with pytest.raises(UnusableBaseModel):
        find_ending(tokenizer, THINKING)
    fixed = fix_template(tokenizer, THINKING, DAY)
    prompt = render(tokenizer, fixed.text, ASKED, add_generation_prompt=True)
    assert prompt.endswith("<assistant><think>\n\n</think>\n\n")
    assert fixed.notes[0].startswith("enable_thinking is off")


def test_what_is_put_in_front_takes_no_line_end_from_a_template(tokenizer: Any) -> None:
    fixed = fix_template(tokenizer, "\n" + DATED, DAY)
    assert render(tokenizer, fixed.text, ASKED).startswith("\n06 Jul")


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (TURNS, r"writes '<assistant>' between a prompt and its answer"),
        (
            TURNS + "{% if add_generation_prompt %}<assistant><think>\n{% endif %}",
            r"opens a thought in front of an answer \(.*<think>",
        ),
        (
            TURNS + "{% if add_generation_prompt %}<bot>{% endif %}",
            "ends a prompt with '.<bot>', and writes something else",
        ),
        ("{{ messages[0].content }}", "leaves out what an assistant answers"),
        ("{{ messages[-1].content }}", "leaves out what a user says"),
        ("{{ messages[0].content", r"does not render \("),
        ("{{ messages[0].content + 1 }}", r"does not render \("),
        ("{{ raise_exception('not today') }}", r"does not render \(not today\)"),
    ],
)
def test_a_template_under_which_no_answer_follows_its_prompt_is_refused_by_name(
    tokenizer: Any, template: str, sentence: str
) -> None:
    with pytest.raises(UnusableBaseModel, match=sentence):
        fix_template(tokenizer, template, DAY)


def test_a_conversation_that_a_template_refuses_is_an_error_of_its_own(
    tokenizer: Any,
) -> None:
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    with pytest.raises(RenderingError, match=r"^no system$"):
        render(tokenizer, strict, [{"role": "system", "content": "x"}])
