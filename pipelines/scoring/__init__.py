"""From a trial to evidence and scores.

Trial ─ controls.py ─► whose references each answer is also compared with
      ─ evidence_file.py ─► Evidence, one row for each answer, kept as Parquet
Evidence ─ scores.py ─► scores with intervals     ─ observations.py ─► the bias report on outputs
"""
