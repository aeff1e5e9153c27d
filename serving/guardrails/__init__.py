"""What is looked for in texts of users and of models, and what is done where it is there.

    rules ─▶ personal, secret_forms, words ─▶ patterns
    request's body ─▶ request_texts ─▶ scan ─▶ the same body, a masked one, or a refusal
    answer ─▶ answer_filter ─▶ text_filter (holds back what may become a match) ─▶ client

Pure functions of texts: who counts, and who sends, is in `serving.endpoint.guarding`.
"""
