"""Shapes: which columns of a record hold the prompt, and which the answer.

    columns ─ names and kinds ──────────────┐
    content ─ one turn ─ turns ─ all of them ─ shape ─ one record ─┬─ recognise ─ a whole file
                                               candidates, refusals ┘

A file has one shape, recognised from its first records and said to the user. A record that does
not have it is a `Misfit`, whose reason names the key that is in the way.
"""
