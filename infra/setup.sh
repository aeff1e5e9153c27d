#!/usr/bin/env bash
# Makes .venv from requirements.lock. torch goes in first, with pip: it is the one that finds the build that fits the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 torch=$2
command -v "$python" >/dev/null || python=python3
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
if [ "$found" != 3.11 ]; then
  echo "Assay needs Python 3.11 and found $found. Install python3.11, or name one: make PYTHON=/path/to/python3.11 …" >&2
  exit 1
fi
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 "$torch"
.venv/bin/uv pip install --quiet --no-deps --require-hashes --compile-bytecode --requirement requirements.lock
.venv/bin/uv pip install --quiet --no-deps --editable .
