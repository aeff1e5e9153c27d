"""What each side is asked, and who is asked first."""

from serving.playground.api import ServedModel
from serving.playground.conversation import Conversation, first_choice


def whole(conversation: Conversation, *texts: str) -> None:
    for answer, text in zip(conversation.exchanges[-1].answers, texts, strict=True):
        answer.text, answer.is_whole = text, True


def said(conversation: Conversation, side: int) -> list[str]:
    return [f"{m.role}: {m.content}" for m in conversation.messages(side)]


def test_each_side_is_asked_with_its_own_answers() -> None:
    conversation = Conversation()
    conversation.ask("hello", ["tuned", "base"])
    whole(conversation, "hi", "good day")
    conversation.ask("and now?", ["tuned", "base"])
    assert said(conversation, 0) == [
        "user: hello",
        "assistant: hi",
        "user: and now?",
    ]
    assert said(conversation, 1)[1] == "assistant: good day"


def test_an_answer_that_is_not_whole_is_not_sent_again() -> None:
    conversation = Conversation()
    first = conversation.ask("hello", ["tuned"])
    first.answers[0].text = "hi, I was going to"
    conversation.ask("again", ["tuned"])
    assert said(conversation, 0) == ["user: again"]


def test_a_fixed_text_is_not_sent_as_something_that_the_model_said() -> None:
    conversation = Conversation()
    first = conversation.ask("hello", ["tuned"])
    whole(conversation, "No model answers at this moment.")
    first.answers[0].release = "none"
    conversation.ask("again", ["tuned"])
    assert said(conversation, 0) == ["user: again"]


def test_a_side_that_was_asked_later_begins_there() -> None:
    conversation = Conversation()
    conversation.ask("hello", ["tuned"])
    whole(conversation, "hi")
    conversation.ask("both?", ["tuned", "base"])
    assert said(conversation, 1) == ["user: both?"]


def test_a_new_page_asks_what_is_released_beside_its_own_base() -> None:
    tuned = ServedModel("tuned", "b1", is_base=False)
    other, own = (ServedModel(name, name, is_base=True) for name in ("b0", "b1"))
    assert first_choice([tuned, other, own]) == ("tuned", "b1")
    assert first_choice([tuned, other]) == ("tuned", None)
    assert first_choice([own]) == ("b1", None)
    assert first_choice([]) == (None, None)
