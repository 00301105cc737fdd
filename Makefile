# `make` lists the targets. Everything lives in .venv, .venv-user, .cache and build; `make clean` removes them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv
export UV_NO_PROGRESS ?= 1
BIN := .venv/bin

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## install everything at its locked version
	@mkdir -p .cache && flock .cache/setup.lock $(MAKE) --no-print-directory installed  # two at once would spoil each other's

installed: .venv/.done .venv-user/.done .cache/proxy/.done
	@:

.venv/bin/uv: locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Ropewalk needs Python 3.11 or newer: make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing; on Debian: apt-get install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt

.venv/.done: .venv/bin/uv locks/platform.txt pyproject.toml
	@echo "installing the platform"
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes locks/platform.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

.venv-user/.done: .venv/bin/uv locks/user.txt pyproject.toml
	@echo "installing what notebooks see"
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-user
	@VIRTUAL_ENV=$(CURDIR)/.venv-user $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes locks/user.txt
	@VIRTUAL_ENV=$(CURDIR)/.venv-user $(BIN)/uv pip install --quiet --no-deps --editable .
	@touch $@

.cache/proxy/.done: .venv/.done locks/proxy/package.json locks/proxy/package-lock.json
	@echo "installing the hub's proxy"
	@mkdir -p .cache/proxy && cp locks/proxy/package.json locks/proxy/package-lock.json .cache/proxy/
	@PATH="$$($(BIN)/python -m ropewalk_hub.node):$$PATH" npm --prefix .cache/proxy ci --silent --ignore-scripts --no-fund --no-audit
	@touch $@

up: setup ## set everything up and start the platform (FOLDER=path opens that folder, PORT=n takes another port)
	@$(BIN)/ropewalk up $(if $(PORT),--port $(PORT)) $(if $(FOLDER),"$(FOLDER)")

lock: .venv/bin/uv ## refresh the locks from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra hub --extra kernel --group dev pyproject.toml -o locks/platform.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra kernel pyproject.toml locks/user.in -c locks/platform.txt -o locks/user.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --extra hub pyproject.toml -c locks/platform.txt -o locks/hub.txt
	@echo hatchling | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -c locks/platform.txt -o locks/build.txt
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate - -o locks/uv.txt
	@npm --prefix locks/proxy install --package-lock-only --silent --ignore-scripts

check: setup ## lint, types, import arrows, sizes
	@$(BIN)/ruff check . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.sizes

SLOWEST = --durations=20 --durations-min=5

# Runs tests so that AGAIN=1 repeats only those that failed, and all of them if the run before ended in any other way.
# The other targets keep nothing: another user may test the same folder.
KEPT = build/pytest-$@
SIDE_BY_SIDE = -n 2 --dist loadfile  # most tests wait for processes, so two at a time take half as long
repeatable = { $(if $(AGAIN),,rm -rf $(KEPT);) \
	$(BIN)/pytest -o addopts="--strict-markers --strict-config --timeout=60" -o cache_dir=$(KEPT) -m "$(1)" -q $(SLOWEST) $(2) $(if $(AGAIN),--last-failed); \
	status=$$?; [ $$status = 1 ] || rm -rf $(KEPT); (exit $$status); }

test: setup ## check, then the fast tests
	@$(MAKE) --no-print-directory check
	@$(call repeatable,not slow and not browser and not cluster,$(SIDE_BY_SIDE))

test-slow: setup ## faults and attacks against a running platform
	@$(call repeatable,slow and not bench and not browser and not cluster,$(SIDE_BY_SIDE))

expr-cases: setup ## ask Argo itself what the expressions of tests/expr give, and keep it (needs Go)
	@$(BIN)/python -m tests.expr.ask

test-bench: setup ## each part of `make bench BENCH=functions`, with figures that mean nothing: does it run?
	@$(BIN)/pytest -m bench -q $(SLOWEST)

test-browser: setup ## attacks and pages in a real browser
	@$(BIN)/pytest -m browser -q $(SIDE_BY_SIDE)

test-unprivileged: setup ## those for which it matters who runs them, as an ordinary user (run as root)
	@$(BIN)/python -m tests.unprivileged

# Before anything is set up: a cluster of its own makes namespaces of the kernel and mounts.
root:
	@[ "$$(id -u)" = 0 ] || { echo "Run this as root: it makes namespaces of the kernel and mounts." >&2; exit 2; }

cluster: root setup ## start a real Kubernetes cluster for tests (PROFILE=core|argo|knative|helm|all; as root)
	@$(BIN)/python -m tests.cluster up --profile $(or $(PROFILE),core)

cluster-down: setup ## end it and leave nothing behind
	@$(BIN)/python -m tests.cluster down

# Runs something on the cluster that is up, with our images in it, or on one that ends with it.
on_cluster = $(BIN)/python -m tests.cluster status >/dev/null 2>&1; before=$$?; \
	$(BIN)/python -m tests.cluster up --profile all && $(BIN)/python -m tests.cluster images && $(1); result=$$?; \
	[ $$before = 0 ] || $(BIN)/python -m tests.cluster down; exit $$result

test-cluster: root setup ## the tests of and against that cluster, with our images in it (as root)
	@$(call on_cluster,$(call repeatable,cluster and not cluster_slow))

test-cluster-slow: root setup ## those of them that take longest, and the API server away for 60 s (as root)
	@$(call on_cluster,ROPEWALK_TEST_OUTAGE=$(or $(ROPEWALK_TEST_OUTAGE),60) $(BIN)/pytest -m cluster_slow -q $(SLOWEST))

images: root setup ## build images/ with buildah and push them to the test cluster that runs (as root; ONLY="runner hub" for some)
	@$(BIN)/python -m tests.cluster images $(ONLY)

kube: root setup ## install Ropewalk on a test cluster and print its address and first link (PORT=n takes another port; as root)
	@$(BIN)/python -m tests.cluster.installed up $(if $(PORT),--port $(PORT))

kube-prepare: root setup ## do all for that but `helmfile sync`, and print the lines that run it by hand (as root)
	@$(BIN)/python -m tests.cluster.installed prepare $(if $(PORT),--port $(PORT))

kube-down: setup ## remove it from the cluster, all but the volumes
	@$(BIN)/python -m tests.cluster.installed down

bench: setup ## print the figures of docs/benchmarks.md (BENCH=cluster: on a test cluster; as root)
	@$(BIN)/python -m bench.$(or $(BENCH),embedded)

tour: setup ## run docs/tour.ipynb in a real browser against a scratch platform (BACKEND=kube: on a test cluster, as root; with FAULTS=1 its parts are killed meanwhile)
	@$(BIN)/python -m tests.tour $(BACKEND) $(if $(FAULTS),--faults) $(if $(SEED),--seed $(SEED))

clean: ## remove what the other targets made
	@rm -rf .venv .venv-user .cache build

.PHONY: help setup installed up lock check test test-slow test-bench test-browser test-unprivileged cluster cluster-down test-cluster test-cluster-slow images kube kube-prepare kube-down root expr-cases bench tour clean
