# Two commands do everything: `make run` and `make test`. Both make the virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
JOBS ?= 4
QUICK ?=
DIST ?= dist
FUZZ_ARGS ?=
SOAK_ARGS ?=
KERNELS_ARGS ?=
PYTHONS ?=

.PHONY: run test unit lint demo golden dashboards bench fuzz soak kernels architectures screenshots deb plugin lock clean

run: $(VENV)/installed  ## the daemon, its address printed
	exec $(BIN)/tcp-exporter $(ARGS)

test: $(VENV)/installed-dev lint  ## everything that needs no system package; what is missing is named
	$(BIN)/pytest --numprocesses $(JOBS) --dist loadgroup -m "not alone" $(PYTEST_ARGS)
	$(BIN)/pytest -m alone $(PYTEST_ARGS)

unit: $(VENV)/installed-dev  ## what needs neither root nor namespaces nor other programs, in less than a minute
	$(BIN)/pytest -q -m "not lab and not e2e" $(PYTEST_ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(VENV)/installed-dev  ## sockets in every state in a namespace of its own, the daemon, and a scrape
	$(BIN)/python -m tests.lab --family both --all 3 --establish 350 -- $(BIN)/python -m tests.demo

golden: $(VENV)/installed-dev  ## rewrite the expected outputs; review the diff
	$(BIN)/pytest -q --update-golden tests/health/test_findings_doc.py tests/test_golden.py tests/test_readme.py tests/test_docs.py tests/kernels/test_report.py \
	  tests/test_alerts.py tests/test_fleet.py tests/terminal/test_frame.py tests/web/test_page.py

dashboards: $(VENV)/installed-dev  ## write deploy/grafana/*.json from dashboards/; review the diff
	$(BIN)/python -m dashboards

bench: $(VENV)/installed-dev  ## ours and the peers side by side, in 20 minutes; QUICK=1 stops at 100,000 sockets, in 3
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick --output dist/benchmarks,--output docs/performance)

fuzz: $(VENV)/installed-dev  ## search for inputs that break a promise, in 12 minutes; FUZZ_ARGS="-s 600 http" for one target longer
	$(BIN)/python -m pip install --quiet --disable-pip-version-check atheris==3.0.0 || echo "no atheris for this Python: by mutation alone"
	$(BIN)/python -m tests.fuzz $(or $(FUZZ_ARGS),--output docs/trust/fuzz.json)

soak: $(VENV)/installed-dev  ## a thousand slow clients beside Prometheus, then a day of samples, in 10 minutes
	$(BIN)/python -m tests.soak $(or $(SOAK_ARGS),--output docs/trust/soak.json)

kernels: $(VENV)/installed-dev  ## boot Debian's kernels and check each, in 5 minutes; needs qemu-system-x86, cpio and kmod; KERNELS_ARGS="--only 6.1"
	$(BIN)/python -m tests.kernels $(or $(KERNELS_ARGS),--output docs/trust/kernels.json)

architectures: $(VENV)/installed-dev  ## the unit tests on a big-endian and a 32-bit Debian, in 10 minutes; needs debootstrap and qemu-user-static
	$(BIN)/python -m tests.architectures $(ARCHITECTURES_ARGS)

screenshots: $(VENV)/installed-dev  ## the status page, quiet and under a SYN flood, for docs/images, in 6 minutes, with pngquant; look at them
	$(BIN)/python -m tests.screenshots docs/images

deb:  ## the Debian package, in dist/; needs build-essential, debhelper, dh-python, python3-venv
	rm -rf $(DIST)/deb
	mkdir -p $(DIST)/deb/tree
	tar -c --exclude=__pycache__ CHANGELOG.md README.md debian deploy exporter requirements.lock systemd | tar -x -C $(DIST)/deb/tree
	cd $(DIST)/deb/tree && dpkg-buildpackage --build=binary --no-sign
	mv $(DIST)/deb/*.deb $(DIST)/
	rm -rf $(DIST)/deb

plugin:  ## the plugin as one file, in dist/, compiled for each python3.9 and newer on the PATH, or for PYTHONS
	@$(PYTHON) -m pyz --output $(DIST)/check_tcp_states.pyz $(PYTHONS)

lock: $(VENV)/installed-dev  ## resolve the dependencies anew
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-emit-find-links --group dev pyproject.toml -o requirements-dev.lock

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d: make PYTHON=python3.x" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
