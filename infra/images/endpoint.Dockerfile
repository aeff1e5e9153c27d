# The endpoint and nothing else: neither Prefect nor MLflow. docs/how-to/several-machines.md builds
# and starts it. The folder to build in holds a wheel of Assay and requirements.lock, nothing else.
ARG BASE=docker.io/library/python:3.11-slim-bookworm
FROM ${BASE}
# Whatever pip takes: this one is for CPUs alone, and a tenth of the build for GPUs.
ARG TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
COPY *.whl requirements.lock /opt/wheel/
# torch with pip, all else with uv by the lock and its hashes: as infra/setup.sh does it.
RUN python3 -m venv /opt/assay \
    && /opt/assay/bin/pip install --quiet --no-cache-dir uv==0.13.9 \
    && /opt/assay/bin/pip install --quiet --no-cache-dir ${TORCH} \
    && /opt/assay/bin/uv pip install --quiet --no-cache --compile-bytecode \
        --python /opt/assay/bin/python --constraint /opt/wheel/requirements.lock \
        "$(ls /opt/wheel/*.whl)[serve,postgres,observe]" \
    && /opt/assay/bin/pip uninstall --quiet --yes uv \
    && rm -r /opt/wheel
# No account of the system has this number, so that nothing but the home belongs to it.
RUN mkdir -p /var/lib/assay && chown 10001:10001 /var/lib/assay
USER 10001:10001
ENV PATH=/opt/assay/bin:$PATH ASSAY_HOME=/var/lib/assay/home HF_HUB_OFFLINE=1
VOLUME /var/lib/assay
EXPOSE 8080
ENTRYPOINT ["python", "-m", "serving.endpoint"]
CMD ["--host", "0.0.0.0", "--port", "8080"]
