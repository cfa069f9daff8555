# Both stages and all commands, in the versions that the tests passed with.
#   GPU:       docker build -t eqvae .
#   processor: docker build -t eqvae:cpu --build-arg WHEELS=https://download.pytorch.org/whl/cpu .
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

# An index of torch's wheels, as its page of installation lists them for each CUDA version and for processors; empty
# takes the wheels of PyPI, which are CUDA builds.
ARG WHEELS=""
ARG EXTRAS="hub"
ARG CONSTRAINTS=constraints/tested.txt

# torch.compile builds its kernels with a C++ compiler.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY constraints constraints
RUN python -m pip install --no-cache-dir --constraint ${CONSTRAINTS} ${WHEELS:+--extra-index-url ${WHEELS}} \
    torch torchvision
COPY . .
RUN python -m pip install --no-cache-dir --constraint ${CONSTRAINTS} ".[${EXTRAS}]"

# Runs, data and what libraries fetch belong in folders of the host: docker run -v "$PWD":/data ...
ENV XDG_CACHE_HOME=/data/.cache HF_HOME=/data/.cache/huggingface
WORKDIR /data
CMD ["eqvae-train", "--help"]
