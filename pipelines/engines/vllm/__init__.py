"""Answers computed by vLLM: its own server in its own environment, a child of the engine process.

    opening: what the loaded model computes ─▶ server: started with base and adapter ─▶ asked for
    the same ─▶ engine: requests as token ids ─▶ asking: tokens as they come ─▶ RunningAnswer

    engine process ─▶ guard.py ─▶ vLLM's server, in which inside/only_owner.py stands before routes

A server has one base and at most one adapter, both from its start on: nothing is loaded later.
"""
