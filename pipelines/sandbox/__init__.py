"""Code that a model wrote, run against tests where it can reach nothing.

answer ─► box ◄── plain data ──► box ◄─ tests
                                  └─► token ─► judge.py ─► Outcome

box.py           bubblewrap, an account that nobody has, limits
system_calls.py  the filter of system calls
boxed.py         what runs inside
run.py           both boxes and the wall clock
self_check.py    whether boxes hold on this machine
"""
