# What to do in a checkout; `make` alone lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
TESTS ?= tests
# Tests start more than a thousand processes; with this set, each of them compiles Headgate again.
unexport PYTHONDONTWRITEBYTECODE
# Side by side, three times as many as a small machine has cores: tests wait for disks and other programs.
# More workers cost more than they save: each needs seconds of CPU to collect the tests.
PYTEST = $(BIN)/python -m pytest -n 6 --dist worksteal

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Both look, and do nothing where all is there: .venv/ is what a lock says. PYTHON=... names another Python.
# What runs Headgate needs a third of what tests it, so that the first `make run` has something to show sooner.
.PHONY: ready
ready:
	@$(PYTHON) dev/bootstrap.py

.PHONY: ready-to-run
ready-to-run:
	@$(PYTHON) dev/bootstrap.py run

.PHONY: run
run: ready-to-run ## Receive on port 8080, drain every 15 s; into a stand-in for S3 unless a bucket is set
	@$(BIN)/python -m dev.run

.PHONY: demo
demo: ready-to-run ## 20 cameras post photographs for half a minute; every object is fetched and compared
	@$(BIN)/python -m dev.demo

.PHONY: test
test: ready ## Run the tests (TESTS=tests/headgate for some of them)
	@$(PYTEST) -m 'not slow and not root' $(TESTS)

.PHONY: test-slow
test-slow: ready ## Run the tests that take minutes, and those that need root
	@$(PYTEST) -m 'slow or root' $(TESTS)

SIZE ?= ci
ROW ?=
SEED ?=

.PHONY: torture
torture: ready ## Run every campaign, and print a table (SIZE=published, ROW="power-ext4" SEED=7 for one again)
	@$(BIN)/python -m dev.torture --size $(SIZE) $(addprefix --row ,$(ROW)) $(addprefix --seed ,$(SEED))

MUTANTS ?=

.PHONY: mutants
mutants: ready ## Make seeded mistakes in a copy, each of which a test must catch (MUTANTS="no-file-fsync" for some)
	@$(BIN)/python -m dev.mutants $(MUTANTS)

MODULE ?=

.PHONY: mutate
mutate: ready ## Change a module in every small way; show what its tests miss (MODULE="headgate/spool/budget/slots.py [TESTS]")
	@$(BIN)/python -m dev.mutate $(MODULE)

.PHONY: sbom
sbom: ready ## Print what ships, with licences and hashes (CycloneDX)
	@$(BIN)/python -m dev.sbom

.PHONY: check
check: ready ## Lint, format, types and tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(PYTEST) -m 'not slow and not root' $(TESTS)

.PHONY: drain
drain: ready-to-run ## Upload until nothing is waiting, within the budget
	@$(BIN)/python -m dev.drain

.PHONY: status
status: ready-to-run ## Show what is waiting, what was uploaded, and what needs attention
	@$(BIN)/headgate status

.PHONY: serve
serve: ready-to-run ## Start only the receiver
	@$(BIN)/headgate-receiver

.PHONY: cron-install
cron-install: ready-to-run ## Let cron start a drain every interval (your own crontab)
	@$(BIN)/headgate cron install

.PHONY: cron-remove
cron-remove: ready-to-run ## Remove that line from your crontab
	@$(BIN)/headgate cron remove

DOCS ?=

.PHONY: docs
docs: ready ## Regenerate the generated parts of the docs (DOCS="settings" for some of them)
	@$(BIN)/python -m dev.docs $(DOCS)

# Needs no .venv/: it creates an environment below PREFIX. FLAGS="--dry-run" shows what it would do.
PREFIX ?= /opt/headgate
EXTRAS ?=

.PHONY: install
install: ## Install it as a service on this machine, or upgrade it (as root; PREFIX=/opt/headgate EXTRAS="queue apprise")
	@$(PYTHON) -m dev.install --prefix $(PREFIX) $(addprefix --extra ,$(EXTRAS)) $(FLAGS)

.PHONY: uninstall
uninstall: ## Uninstall it from this machine; the spool stays
	@$(PREFIX)/bin/headgate uninstall $(FLAGS)

.PHONY: deb
deb: ## Make a package for this Debian, with its own Python, in dist/ (FLAGS="--output DIR" for another folder)
	@/usr/bin/python3 -m dev.deb $(FLAGS)

BENCH ?= receive slow parsers send limit pick scrape

.PHONY: bench
bench: ready bench-ready ## Measure against other tools, some minutes each (BENCH="receive pick" for some)
	@for name in $(BENCH); do $(BIN)/python -m bench.$$name || exit 1; done

MINUTES ?= 10
SCALE ?= 1

.PHONY: headline
headline: ready ## Play ten minutes of the site of docs/SCALE.md for real (MINUTES=1 SCALE=0.1 for less)
	@$(BIN)/python -m bench.headline --minutes $(MINUTES) --scale $(SCALE) $(FLAGS)

# The peers have an environment of their own, so that none of their dependencies is ours.
.PHONY: gateways
gateways: ready ## Play five gateways on one link with a real Redis, and print what they used of it (MINUTES=60)
	@HEADGATE_TEST_GATEWAYS_MINUTES=$(MINUTES) $(PYTEST) -q -s -n 0 -m slow tests/system/test_shared_uplink.py -k published

.PHONY: bench-ready
bench-ready: ready
	@cmp -s bench/requirements.lock .venv-bench/.made || { \
	  $(BIN)/uv venv --quiet --clear .venv-bench && \
	  $(BIN)/uv pip sync --quiet --python .venv-bench --require-hashes bench/requirements.lock && \
	  cp bench/requirements.lock .venv-bench/.made; }

.PHONY: clean
clean: ## Remove what was made here, except var/, which holds images
	rm -rf .venv .venv-bench .venv-mutate build dist headgate.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +

.PHONY: lock
lock: ready ## Resolve the dependencies of setup.cfg again: requirements*.lock
	@$(BIN)/uv pip compile $(UVFLAGS) setup.cfg -o requirements.lock
	@$(BIN)/uv pip compile $(UVFLAGS) -c requirements.lock --extra apprise --extra fleet --extra local --extra queue --extra smtp --extra test \
	  --extra dev setup.cfg -o requirements-dev.lock
	@for extra in apprise fleet ftp local queue smtp; do $(BIN)/uv pip compile $(UVFLAGS) -c requirements-dev.lock --extra $$extra setup.cfg \
	  -o requirements-$$extra.lock || exit 1; done
	@$(BIN)/uv pip compile $(UVFLAGS) bench/requirements.txt -o bench/requirements.lock

UVFLAGS = --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock'
