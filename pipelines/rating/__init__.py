"""People rate answers blind: which answers they are shown, and what their ratings show.

sample    prompts, answers, planted ones ──► a sealed plan and what is shown of it
seen      plan + what MLflow shows at the end ──► items that were altered
collect   plan + what people wrote ──► ratings that count
count     plan + ratings ──► difference, agreement, what was planted and caught
model     questions ──► a model's scores in both orders ──► agreement with people
          (model_judge.py asks, model_count.py compares)
          or the items of a plan ──► a model's ratings, one by one (item_judge, model_review)
criteria  the words of the questions, for people and a model alike
pairs     plan + ratings ──► rows for preference training
"""
