# The three commands, with DeepSpeed, on an NVIDIA GPU:
#   docker build -t whisper-harvest .
#   docker run --gpus all --ipc=host --ulimit memlock=-1 --user "$(id -u):$(id -g)" \
#       -v "$PWD:/work" whisper-harvest train --help
# and on a CPU:
#   docker build -t whisper-harvest:cpu --build-arg BASE=ubuntu:24.04 --build-arg EXTRAS=youtube .
# For a Ray cluster and a catalogue in PostgreSQL add --build-arg EXTRAS=youtube,cuda,ray,postgres
#
# The CUDA libraries come with Python's packages, so the base image only has to let the driver in.
# --user: what is written to /work belongs to who runs it. --ipc=host: NCCL and the data loader's workers need more shared memory than Docker's 64 MB.
ARG BASE=nvidia/cuda:13.0.1-base-ubuntu24.04
FROM ${BASE}

# A compiler and Python's headers: torch.compile builds launchers, DeepSpeed its CPU Adam.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv python3-dev gcc g++ \
    && rm -rf /var/lib/apt/lists/*

# The version of torch; for a CPU wheel give pip the place of one:
#   --build-arg TORCH="torch==2.13.0 --index-url URL"
ARG TORCH="torch==2.13.0"
ARG EXTRAS=youtube,cuda
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
WORKDIR /opt/whisper-harvest
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY corpus corpus
COPY review_app review_app
COPY train train
RUN python3 -m venv /opt/venv \
    && pip install --constraint constraints.txt ${TORCH} \
    && pip install --constraint constraints.txt ".[${EXTRAS}]"

# Compiled kernels and downloaded models outlive the container in one volume, which whoever is named
# by --user can write to; HOME and USER are for libraries that ask who that is.
ENV HOME=/cache USER=harvest HF_HOME=/cache/hf \
    TORCH_EXTENSIONS_DIR=/cache/torch_extensions \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TRITON_CACHE_DIR=/cache/triton
RUN useradd --uid 10001 harvest && install --directory --mode=1777 /cache /work
USER harvest
VOLUME /cache
WORKDIR /work
CMD ["corpus", "--help"]
