"""Probes of what an adapter says beside its task: refusals, stereotypes, rows and secrets learned.

`prompts.jsonl` holds the prompts that Assay brings; a user's own files lie in the project's folder
`safety/`. `pipelines.models.probes` asks, this room counts, `pipelines.gates.safety_check` judges.
"""
