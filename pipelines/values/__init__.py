"""What stages give each other: frozen values, written as JSON between processes.

params ─ what changes a result         base_manifest ─ the base model
dataset ─ rows, splits, reports  ──►  training_set ─ what `admit` let through
evidence ─ adapter, answers, scores   serving_spec ─ what answered     champion ─ compared with
trial ─ everything that `score` reads  ──►  verdict ─ what a gate answers
"""
