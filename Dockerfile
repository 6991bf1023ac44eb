# syntax=docker/dockerfile:1
# On CPUs:             docker build -t sadr .
# On an NVIDIA GPU:    docker build -t sadr:cuda --target cuda .
# How to run them, and what the small one leaves out: docs/containers.md. The wheel is built from
# this folder. .ci/container takes the same steps without Docker.

ARG PYTHON=3.12-slim-bookworm

FROM python:${PYTHON} AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --quiet --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON} AS install-cpu
COPY containers /containers
COPY --from=wheel /dist /dist
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN TORCH_INDEX=${TORCH_INDEX} sh /containers/install.sh small /dist/sadr-*.whl /opt/sadr

FROM python:${PYTHON} AS install-cuda
COPY containers /containers
COPY --from=wheel /dist /dist
ARG TORCH_CUDA_INDEX=https://download.pytorch.org/whl/cu126
RUN TORCH_INDEX=${TORCH_CUDA_INDEX} sh /containers/install.sh full /dist/sadr-*.whl /opt/sadr

# A user without rights, and nothing that writes outside of the mounted folder.
FROM python:${PYTHON} AS base
LABEL org.opencontainers.image.title="sadr" \
      org.opencontainers.image.description="3-D faces from photographs with SADRNet. The weights are for non-commercial research only."
RUN useradd --uid 1000 --create-home sadr && mkdir /data && chown sadr /data
ENV PATH=/opt/sadr/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
USER 1000
ENTRYPOINT ["sadr"]
CMD ["--help"]

FROM base AS cuda
USER 0
# For Open3D.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libegl1 libgl1 libgomp1 libusb-1.0-0 libx11-6 \
    && rm -rf /var/lib/apt/lists/*
USER 1000
# The driver comes from the host, through the NVIDIA Container Toolkit.
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=install-cuda /opt/sadr /opt/sadr

# The last one is what docker build makes unless told otherwise.
FROM base AS cpu
COPY --from=install-cpu /opt/sadr /opt/sadr
