"""The paths of a workspace's files, relative to its root. Each is named here and nowhere else.

    data/raw ─ collect ─ split ─ validate ─ bias ─ admit ─┬─ fine_tune ─┬─ prompt_baselines
                                      └─ base_model ──────┘             └─ generate ─ score ─ screen
    a block of the reserve, where the gate `screen` passed: confirm

A stage runs in the root and writes below `data/STAGE`. dvc.yaml names the same folders.
"""

from pathlib import Path

DATA = Path("data")
RAW = DATA / "raw"
EXPECTATIONS = DATA / "expectations" / "rows.json"
PARAMS = Path("params.yaml")
POLICIES = Path("registry/policies")
POLICY = POLICIES / "default.yaml"
OWN_METRICS = Path("metrics")
SAFETY = Path("safety")
DVC_STAGES = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
CODE = DATA / "code"

BASE_MODEL = DATA / "base_model"
BASE_MODEL_MANIFEST = BASE_MODEL / "manifest.json"
CHAT_TEMPLATE = BASE_MODEL / "chat_template.jinja"
CONFORMANCE = DATA / "base_check" / "conformance.json"
CHAMPION = DATA / "champion"
CHAMPION_INPUT = CHAMPION / "champion.json"
RESERVE = DATA / "reserve"
SEEN_GROUPS = RESERVE / "seen.json"
BLOCK_INPUT = RESERVE / "block.json"

COLLECT = DATA / "collect"
SPLIT = DATA / "split"
DATASET = SPLIT / "dataset.json"
VALIDATE = DATA / "validate"
VALIDATION_REPORT = VALIDATE / "report.json"
HELD_OUT = VALIDATE / "held_out.jsonl"
SEALED = VALIDATE / "reserve.jsonl"
BIAS = DATA / "bias"
BIAS_REPORT = BIAS / "report.json"
ADMIT = DATA / "admit"
ADMIT_VERDICT = ADMIT / "verdict.json"
TRAINING_SET = ADMIT / "training_set"
ASKED_BASELINES = ADMIT / "baselines.json"

FINE_TUNE = DATA / "fine_tune"
ADAPTER = FINE_TUNE / "adapter.json"
PROGRESS = FINE_TUNE / "progress.jsonl"
MEMBERSHIP = FINE_TUNE / "membership.json"
PROMPT_BASELINES = DATA / "prompt_baselines"
FEW_SHOT_EXAMPLES = PROMPT_BASELINES / "few_shot_examples.json"
RETRIEVED = PROMPT_BASELINES / "retrieved_examples.json"
GENERATE = DATA / "generate"
PROBED = GENERATE / "safety.json"
TASKS_ANSWERED = GENERATE / "humaneval.json"
SCORE = DATA / "score"
SCORECARD = SCORE / "scorecard.json"
EVIDENCE = SCORE / "evidence.parquet"
NAMED_ANSWERS = SCORE / "named_answers.jsonl"
SAFETY_ANSWERS = SCORE / "safety.json"
HUMANEVAL_ANSWERS = SCORE / "humaneval.json"
SCREEN = DATA / "screen"
SCREEN_VERDICT = SCREEN / "verdict.json"
CONFIRM = DATA / "confirm"
CONFIRMATION = CONFIRM / "confirmation.json"
