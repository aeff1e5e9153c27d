"""OpenAI's wire format, as far as it is served: closed, and bounded before anything is computed.

    fields ▶ generation ▶ chat, completions    what a request may hold
    refusals                                   what is wrong with one, in a sentence
    usage, chat_answers, completion_answers    what an answer holds
    models                                     the list of what answers

A field that would change the answer and is not served is refused by name, unless it carries the
setting that changes nothing. Fields that only label a request (`user`, `metadata`, …) are taken
and dropped.
"""
