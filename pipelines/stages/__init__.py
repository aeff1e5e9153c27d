"""The stages: one file each, in the order of `pipelines.__main__.STAGES`.

    collect ─ split ─ validate ─ bias ─ admit ─┬─ fine_tune ─ generate ─┬─ score ─ screen
    base_model ────────────────────────────────┴─ prompt_baselines ─────┘

Each file holds a function of the stage's name, from values to a value, and `main`, which reads
its files, writes `data/STAGE` and gives the exit code. `admit` and `screen` are gates.
"""
