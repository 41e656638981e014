# syntax=docker/dockerfile:1
# docker build -t maskrcnn .                              TensorFlow and JAX on the CPU
# docker build -t maskrcnn:gpu --build-arg VARIANT=gpu .  with CUDA's libraries; the host needs NVIDIA's container toolkit
# docker run --rm -it -v "$PWD/data:/data" -v "$PWD/weights:/weights" -v "$PWD/results:/results" maskrcnn
ARG PYTHON_IMAGE=python:3.11.11-slim-bookworm
FROM ${PYTHON_IMAGE}

ARG VARIANT=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 MASKRCNN_CACHE=/weights MPLCONFIGDIR=/tmp/matplotlib

RUN useradd --create-home --uid 1000 maskrcnn && install -d -o maskrcnn /data /weights /results /workspace
WORKDIR /workspace

# The dependencies alone, so that a change of the code does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY maskrcnn/__init__.py maskrcnn/__init__.py
RUN case "${VARIANT}" in cpu) extras=jax,onnx ;; gpu) extras=gpu,onnx ;; *) echo "VARIANT is cpu or gpu" >&2; exit 2 ;; esac \
    && pip install --constraint constraints.txt ".[${extras}]"

COPY . .
RUN pip install --no-deps --force-reinstall . && maskrcnn --version

USER 1000
VOLUME ["/data", "/weights", "/results"]
CMD ["bash"]
