#!/usr/bin/env bash
# Runs the tests of the gates and wants every branch of each gate run; infra/gates.toml lists both.
# With arguments it runs those tests instead, and still measures the gates' own alone: measuring
# slows a test down, and a gate that only other tests run is not tested. The quick tier:
#     infra/coverage.sh -n 2 --dist loadgroup --no-loadscope-reorder
# Only what runs in pytest's own processes counts, not the programs that tests start.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t gates < <(.venv/bin/python infra/mutate.py --list gates)
mapfile -t tests < <(.venv/bin/python infra/mutate.py --list tests)
if [ ${#gates[@]} = 0 ] || [ ${#tests[@]} = 0 ]; then
  echo "infra/gates.toml names no gate or no test." >&2
  exit 1
fi
if [ $# = 0 ]; then
  set -- "${tests[@]}"
fi
.venv/bin/pytest --cov --cov-report= "${tests[@]/#/--measured=}" "$@"
include=$(IFS=,; echo "${gates[*]}")
.venv/bin/coverage report --include="$include" --fail-under=100 --no-skip-covered
