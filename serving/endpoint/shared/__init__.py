"""Releases of several models on one base in one engine process.

    company (which bases have several models?) ─▶ place (where may this release go?)
    processes (one has room, or one is started) ─▶ process ─▶ attaching ─▶ seat, of one release

At most one release of a model is in one process: what serves and what a rollback goes back to never
end together.
"""
