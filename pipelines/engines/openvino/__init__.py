"""Rows computed by OpenVINO, for processors: the same batch, steps and choice of tokens.

    loaded model ─▶ trace: its forward ─▶ graph: compiled ─▶ paged: rows in blocks ─▶ a batch
                                   opening: trusted only where both compute the same

Everything around the forward is the reference engine's own: who waits, which rows share a step,
which token comes next, where an answer ends.
"""
