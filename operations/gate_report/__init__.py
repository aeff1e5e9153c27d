"""A gate's answer for CI: JUnit XML for its pages, Markdown for a summary of a pull request.

    judgement, re-run or training run ─► report.py ─► junit.py
                                                  └─► markdown.py
    fitness.py   the one sentence that stands first; the version's report says it, too

Whatever came from data is text in both: neither markup nor a mention of a person.
"""
