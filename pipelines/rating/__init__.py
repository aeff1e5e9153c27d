"""People rate answers blind: which answers they are shown, and what their ratings show.

sample    prompts, answers, planted ones ──► a sealed plan and what is shown of it
count     plan + ratings ──► difference, agreement, what was planted and caught
pairs     plan + ratings ──► rows for preference training
"""
