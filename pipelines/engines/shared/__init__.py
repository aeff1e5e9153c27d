"""Several adapters on one base, in one process: rows of all of them share each pass.

    loading: a package's matrices ─▶ stack: all of them side by side ─▶ places: in the base's layers
                                                        engine: who may ask which of them

An adapter has a number, which is never given to another one, and what lies in a stack is never
changed: another adapter makes another stack, which is exchanged between two passes.
"""
