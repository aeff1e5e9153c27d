"""Processes that answer over HTTP: OpenAI's interface in front of engines. No Prefect here.

client ──▶ endpoint/ (one process, follows the ledger) ──▶ `python -m serving` (one per release)
socket and HTTP  listen ▶ connections ▶ wire, host_names         owner: who may ask an engine
before it loads  spare: everything imported, nothing loaded
one request      app ▶ request_body ▶ openai_schema/ ▶ plans, prompts ▶ engines/ ▶ text_stream
                   ▶ answer_events ▶ forms/ ▶ answer; errors are a refusal
what is loaded   load ▶ package; regenerate answers held-out prompts once more
other processes  client asks the endpoint of a home; core.children names environment variables
"""
