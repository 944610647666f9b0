# ilf/ml-base: what refinement, ranking, reward and the trainer share, so that each adds only its code.
#   LOCK=cpu       transformers on a CPU: small, for trying out and for tests
#   LOCK=cpu-vllm  the same with vLLM's CPU build
#   LOCK=gpu       vLLM and CUDA; also set APT_PACKAGES="wget gcc libc6-dev", because Triton compiles at run time
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
ARG LOCK=cpu
COPY locks/install.sh locks/images/ml-${LOCK}.txt /locks/
RUN python -m venv /opt/ilf \
 && bash /locks/install.sh /opt/ilf /locks/ml-${LOCK}.txt \
 && /opt/ilf/bin/python -m pip uninstall --quiet --yes pip

FROM ${BASE_IMAGE}
# wget and a login shell that finds `ray` are what KubeRay's probes and start commands want of an image.
ARG APT_PACKAGES=wget
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends ${APT_PACKAGES} \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/* \
 && groupadd --gid 10001 ilf \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin ilf \
 && echo 'PATH=/opt/ilf/bin:$PATH' >/etc/profile.d/ilf.sh
COPY --from=build /opt/ilf /opt/ilf
# A model of 4 MB that does everything the loop asks for: the charts' values for trying out name it.
COPY examples/word_removal/model /opt/ilf-models/word-removal
ENV PATH=/opt/ilf/bin:$PATH \
    PYTHONPATH=/app:/app/protos/gen \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    VLLM_NO_USAGE_STATS=1
USER 10001:10001
WORKDIR /app
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="ilf/ml-base" \
      org.opencontainers.image.description="Python and the ML stack of ILF's refinement, ranking, reward and training" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
