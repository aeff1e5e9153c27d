#!/usr/bin/env bash
# Makes .venv from requirements.lock. torch goes in first, with pip: it is the one that finds the build that fits the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 torch=$2
command -v "$python" >/dev/null || python=python3
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none)
case $found in
  3.11 | 3.12 | 3.13) ;;
  *)
    echo "Assay needs Python 3.11, 3.12 or 3.13 and found $found. Install one, or name it: make PYTHON=/path/to/python3.12 …" >&2
    exit 1
    ;;
esac
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9 "$torch"
.venv/bin/uv pip install --quiet --no-deps --require-hashes --compile-bytecode --requirement requirements.lock
.venv/bin/uv pip install --quiet --no-deps --editable .
