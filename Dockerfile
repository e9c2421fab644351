# The operator's image. Both bases have the same Python; give others, or pin these where builds must not drift:
#   docker build --build-arg BUILD_IMAGE=docker.io/library/python:3.13-slim-trixie@sha256:... \
#                --build-arg RUNTIME_IMAGE=gcr.io/distroless/python3-debian13:nonroot@sha256:... .
# The names stand in FROM and not in ARG, since Dependabot reads no ARG.
ARG BUILD_IMAGE=python
ARG RUNTIME_IMAGE=distroless
FROM docker.io/library/python:3.13-slim-trixie AS python
FROM gcr.io/distroless/python3-debian13:nonroot AS distroless

FROM ${BUILD_IMAGE} AS build
# Seconds since 1970: the time of every file, so that the same sources give the same layer.
ARG SOURCE_DATE_EPOCH=1580601600
# No compiled code but that of compileall, below: pip would leave some behind, with times in it.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# An environment without pip, whose python is the name that the runtime image has for its own.
RUN ln -s /usr/local/bin/python3.13 /usr/bin/python3.13 \
 && /usr/bin/python3.13 -m venv --without-pip /opt/awsbatch-operator

COPY locks/build.txt locks/operator.txt locks/
RUN pip install --require-hashes --only-binary :all: -r locks/build.txt \
 && pip --python /opt/awsbatch-operator/bin/python install --require-hashes --only-binary :all: --no-compile \
      -r locks/operator.txt

# What the operator never opens: botocore's data of all services but Batch and those that credentials come from.
# tests/deploy/test_wheel.py runs it so.
WORKDIR /opt/awsbatch-operator/lib/python3.13/site-packages
RUN find botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name batch ! -name signin ! -name sso ! -name sso-oidc ! -name sts -exec rm -r {} +

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY crds/batchaccesspolicies.awsbatch.dev.yaml crds/batchjobs.awsbatch.dev.yaml crds/batchterminations.awsbatch.dev.yaml crds/
COPY operator operator
RUN pip wheel --no-build-isolation --no-deps --no-index --wheel-dir dist . \
 && pip --python /opt/awsbatch-operator/bin/python install --no-deps --no-index --no-compile dist/*.whl \
 && pip --python /opt/awsbatch-operator/bin/python check

# Nothing can be compiled later, on a read-only root. By hash and unchecked: no file time matters.
RUN /opt/awsbatch-operator/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      /opt/awsbatch-operator/lib/python3.13/site-packages \
 && find /opt/awsbatch-operator -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# No shell and no package manager: a Python, time zones, and the certificates of public authorities.
FROM ${RUNTIME_IMAGE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="awsbatch-operator" \
      org.opencontainers.image.description="A Kubernetes operator that mirrors AWS Batch jobs and ends them when their object says so." \
      org.opencontainers.image.source="https://github.com/awsbatch-operator/awsbatch-operator" \
      org.opencontainers.image.documentation="https://github.com/awsbatch-operator/awsbatch-operator/blob/main/docs/install.md" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/awsbatch-operator /opt/awsbatch-operator
# Nothing is written to the root file system, and a line of the log leaves the process at once.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8080
# Liveness and readiness are Kubernetes' to probe: /livez and /readyz.
ENTRYPOINT ["/opt/awsbatch-operator/bin/awsbatch-operator"]
