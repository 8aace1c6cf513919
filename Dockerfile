# The daemon as an image: Python, one virtual environment and nothing else; no shell script, no root, nothing is written.
#
#     docker build -t tcp-exporter .
#     docker run -d --name tcp-exporter --net=host --cgroupns=host --read-only --cap-drop=ALL --security-opt=no-new-privileges tcp-exporter
#
# --net=host is needed: the kernel counts sockets by network namespace, and without it the container sees only its own.
# Another base needs Python 3.11 or newer with venv at the same path in both stages:
#
#     docker build --build-arg BASE=... -t tcp-exporter .
# Give the tag with the digest that your registry has for it (...:3.13-slim-bookworm@sha256:...) for a build that is the
# same tomorrow; none is pinned here, because a pin that nobody renews misses security updates.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS builder
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
# What is installed, and what builds, each by its hash; the latter stays in this stage.
RUN python3 -m venv /opt/tcp-exporter && python3 -m venv tools
COPY requirements.lock requirements-build.lock ./
RUN /opt/tcp-exporter/bin/python -m pip install --require-hashes -r requirements.lock \
 && tools/bin/python -m pip install --require-hashes -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
# The last thing that is removed is the installer itself: the image that runs installs nothing.
RUN tools/bin/python -m pip wheel --no-build-isolation --no-deps --wheel-dir=wheel . \
 && /opt/tcp-exporter/bin/python -m pip install --no-deps wheel/*.whl \
 && /opt/tcp-exporter/bin/python -m pip uninstall --yes --quiet setuptools pip

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.authors="tcp-exporter maintainers" \
      org.opencontainers.image.title="tcp-exporter" \
      org.opencontainers.image.description="TCP health of a Linux host: socket counts per state and the sysctls behind them, for Prometheus and Nagios" \
      org.opencontainers.image.url="https://tcp-exporter.example" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/tcp-exporter /opt/tcp-exporter
ENV PATH=/opt/tcp-exporter/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1
EXPOSE 19293
USER 65534:65534
# Docker and Podman run this (an OCI-format image drops it: build with --format docker); Kubernetes has probes of its own.
# With another port than 19293, give --health-cmd "tcp-exporter healthcheck --url http://127.0.0.1:PORT".
HEALTHCHECK --interval=30s --timeout=6s --start-period=5s CMD ["tcp-exporter", "healthcheck"]
ENTRYPOINT ["tcp-exporter"]
