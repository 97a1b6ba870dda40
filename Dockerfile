# antcache in a container; docs/containers.md says how it is built and run.
#
#   docker build --target cpu -t antcache .
#   docker build --target cuda -t antcache:cuda .
FROM python:3.11-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 antcache
WORKDIR /opt/antcache
COPY setup.py pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install -c constraints.txt setuptools wheel

# Where PyTorch's builds for the CPU lie, which bring no CUDA libraries; empty: what pip finds.
FROM base AS cpu
ARG TORCH_INDEX=""
RUN pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY antcache antcache
COPY kernels kernels
COPY cli cli
RUN pip install -c constraints.txt --no-build-isolation ".[demo,evaluate,corpus,parse,import,remote]"
USER antcache
WORKDIR /home/antcache
ENTRYPOINT ["antcache"]
CMD ["--help"]

# PyTorch's wheels bring CUDA's libraries, the machine its driver. Triton compiles with a C compiler.
FROM base AS cuda
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN pip install -c constraints.txt torch
COPY antcache antcache
COPY kernels kernels
COPY cli cli
RUN pip install -c constraints.txt --no-build-isolation ".[all]"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER antcache
WORKDIR /home/antcache
ENTRYPOINT ["antcache"]
CMD ["--help"]
