# ilf/trainer: the process of one training job.
ARG BASE_IMAGE=python:3.11-slim-bookworm
ARG ML_BASE=ilf/ml-base:dev

FROM ${BASE_IMAGE} AS code
WORKDIR /app
COPY protos/gen protos/gen
COPY ilf_common ilf_common
COPY services/__init__.py services/__init__.py
COPY services/finetune services/finetune
RUN python -m compileall -q .

FROM ${ML_BASE}
ENTRYPOINT ["python", "-m", "services.finetune.trainer"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ilf/trainer" \
      org.opencontainers.image.description="Trains one finetune job" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Who may write the code; skaffold's file sync makes it the user of the process.
ARG CODE_OWNER=0
COPY --from=code --chown=${CODE_OWNER}:${CODE_OWNER} /app /app
