#!/usr/bin/env bash
# Writes requirements.lock from pyproject.toml: one lock for every Python that requires-python names, which
# markers tell apart. torch and its CUDA packages stay out: pip takes the build that fits the machine first.
set -euo pipefail
cd "$(dirname "$0")/.."
cuda=$(printf -- '--no-emit-package %s ' torch triton cuda-bindings cuda-pathfinder cuda-toolkit \
  nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13,cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx})
# shellcheck disable=SC2086
.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --quiet \
  --custom-compile-command 'make lock' $cuda --no-emit-package pip --output-file requirements.lock "$@"
