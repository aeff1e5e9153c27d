"""From a version's evidence to full traffic, and the brakes that take the traffic away.

```
package ─recompute─► differences ─judge─► Candidate ─release─► begun ─► switched ─► completed
  │       stored_inputs.py           │      release.py: a state machine over the ledger
  │       stored_files.py            └───► Rejection, Undecided: an entry in the ledger, no traffic
  └─known_answers.py: what a loaded release must answer again
brakes.py ─► rolled back, base served, revoked, frozen: one entry each
```

- `recompute.py` judges `admit` and `screen` again from the stored files, and lists what differs.
- `stored_inputs.py` and `stored_files.py` compare the evidence with the data, and with the adapter
  and the base, beside it.
- `known_answers.py` chooses, draws and compares prompts with their scored answers.
- `judge.py` is the gate before release: evidence, origin, people, keys and time.
- `release.py` drives a candidate to full traffic; it may be killed between any two lines.
- `brakes.py` rolls back, serves the base, revokes, freezes, waives; without MLflow and Prefect.
- `context.py` and `following.py` are ledger and endpoint as releases and brakes see them.
- `people.py` reads who may do what; `approvals.py` enters what approvers say.
- `succession.py` says whether a new finalist takes `challenger` from an older one.
- `accept.py` has a ledger count that lacks entries which others remember.
"""
