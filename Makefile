# Each target sets up its own .venv on first use. Any Python from 3.11 on will do: make PYTHON=python3.12 test
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-teams demo-bulk sandbox test alerts coverage lint format e2e chaos bench bench-way bench-cost bench-roles bench-bulk bench-broken-role bench-scale bench-events soak links foreign-crds pictures plugin locks docs clean

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3.14 python3,$(shell command -v $(p))))
VENV := .venv
BIN := $(VENV)/bin
UV_READY := $(VENV)/.uv-ready
SANDBOX_READY := $(VENV)/.sandbox-ready
READY := $(VENV)/.ready
CODE := operator tests tools bench
# The tests start hundreds of Python processes: without bytecode on disk each would compile everything again.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## install everything into .venv (the other targets do it by themselves)

# pip installs uv, and uv the rest; where it cannot, pip does. The indexes are those that pip's settings name. A pip of
# .venv's own takes 4 s: it has one only if PYTHON has none.
INSTALL := $(PYTHON) tools/install.py $(BIN)/python
EDITABLE := --no-deps --no-build-isolation -e .

$(UV_READY): locks/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $$($(PYTHON) -c 'import pip' 2>/dev/null && echo --without-pip) $(VENV)
	@echo "Installing uv: about 5 s"
	@$(INSTALL) -q --require-hashes --only-binary :all: -r locks/uv.txt \
	  || echo "  There is no uv for this machine: pip installs the rest, which takes some minutes"
	@touch $@

$(SANDBOX_READY): locks/sandbox.txt pyproject.toml $(UV_READY)
	@echo "Installing the operator and its sandbox, 60 MB: about 10 s"
	@$(INSTALL) --require-hashes -r locks/sandbox.txt
	@$(INSTALL) $(EDITABLE)
	@touch $@

$(READY): locks/dev.txt locks/schemas.txt pyproject.toml $(UV_READY)
	@echo "Installing the operator and all that tests and checks need, 220 MB: about 30 s"
	@$(INSTALL) --require-hashes -r locks/dev.txt
	@$(INSTALL) --no-deps --require-hashes --upgrade --target $(VENV)/schemas -r locks/schemas.txt
	@$(INSTALL) $(EDITABLE)
	@# Compiles the tests once instead of once for each worker.
	@$(BIN)/python -m pytest -q --collect-only tests >/dev/null
	@touch $@ $(SANDBOX_READY)

demo: $(SANDBOX_READY) ## the main use, end to end, in the sandbox
	@$(BIN)/awsbatch-operator demo

demo-teams: $(SANDBOX_READY) ## two teams, two accounts: one tries to terminate a job of the other; the operator denies it
	@$(BIN)/awsbatch-operator demo-teams

demo-bulk: $(SANDBOX_READY) ## 300 jobs in a queue: a BatchTermination counts 200 of them and, once approved, terminates them
	@$(BIN)/awsbatch-operator demo-bulk

sandbox: $(SANDBOX_READY) ## start a cluster, a simulated AWS Batch and the operator; ARGS="--roles"; runs until Ctrl-C
	@$(BIN)/awsbatch-operator sandbox $(ARGS)

# Integration tests mostly wait: eight workers share two cores well. tests/conftest.py sets the order of the files.
PYTEST := -m pytest -n 8 --dist loadfile --no-loadscope-reorder --durations 4 $(addprefix tests/,chaos integration e2e deploy contract unit)

# ARGS=--hypothesis-profile=thorough tries four times as many examples.
test: $(READY) ## all tests: no cluster, no Docker, no AWS needed
	@$(BIN)/python $(PYTEST) $(ARGS)

PROMTOOL ?= promtool
alerts: ## unit tests of the alerts in deploy/monitoring, by promtool
	@command -v $(PROMTOOL) >/dev/null || { \
	  echo "promtool is missing: apt-get install prometheus, or make PROMTOOL=/path/to/promtool alerts"; exit 1; }
	@cd deploy/monitoring && $(PROMTOOL) check rules alerts.yaml && $(PROMTOOL) test rules alerts_test.yaml

coverage: $(READY) ## all tests with branch coverage of the operator, its own processes included
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run $(PYTEST) -q --hypothesis-profile=thorough
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --fail-under=97

lint: $(READY) ## all static checks
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/api_docs.py --check
	$(BIN)/cfn-lint $(addsuffix /template.yaml,$(addprefix deploy/,iam iam/spoke events events/forward))
	$(BIN)/python tools/helm_chart.py lint
	$(BIN)/python tools/install_yaml.py --check
	$(BIN)/hadolint Dockerfile
	$(BIN)/yamllint --strict .github crds deploy examples tests/deploy
	git ls-files -z ":!locks" ":!tools/vocabulary.txt" | xargs -0 $(BIN)/codespell

format: $(READY) ## format the code and fix what ruff can fix
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

e2e: $(READY) ## tests/e2e and kubeconfigs on the embedded control plane; with KUBEBUILDER_ASSETS on that, and tests/deploy
	@$(BIN)/python -m pytest tests/e2e tests/contract/test_kubeconfig.py $(if $(KUBEBUILDER_ASSETS),tests/deploy --control-plane=envtest,--control-plane=embedded)

# ARGS="--seed 7 --minutes 30 --control-plane envtest"; ARGS overrides the options here.
chaos: $(READY) ## half an hour of faults against two replicas; ARGS="--seed 7 --minutes 5" for another
	@$(BIN)/python -m pytest tests/chaos -s --minutes 30 $(ARGS)

bench: $(READY) ## measure the figures of bench/README.md: on KUBEBUILDER_ASSETS, else the embedded control plane
	@$(BIN)/python -m bench $(ARGS)

bench-way: $(READY) ## files and functions of the package that a patch passes on its way to TerminateJob
	@$(BIN)/python -m bench.patch_way $(ARGS)

bench-cost: $(READY) ## cost against the number of jobs, 100 to 30,000; draws bench/cost.svg
	@$(BIN)/python -m bench.cost $(ARGS)

bench-roles: $(READY) ## memory, threads and latency with 10, 100 and 300 roles
	@$(BIN)/python -m bench.many_roles $(ARGS)

bench-bulk: $(READY) ## BatchTerminations: 10,000 jobs counted, 4,000 terminated, and what others wait for meanwhile
	@$(BIN)/python -m bench.bulk $(ARGS)

bench-broken-role: $(READY) ## check that broken roles of others slow 1,000 healthy jobs by at most 10 %
	@$(BIN)/python -m bench.broken_role $(ARGS)

bench-scale: $(READY) ## 100,000 live jobs: start, cost, latency, takeover, three processes
	@$(BIN)/python -m bench.scale $(ARGS)

bench-events: $(READY) ## from the end of a job to its status, and AWS calls: polls, lists, events; draws bench/events.svg
	@$(BIN)/python -m bench.events $(ARGS)

soak: $(READY) ## 40 minutes of changes at 2,000 objects: memory, files and threads must not grow
	@$(BIN)/python -m bench.soak $(ARGS)

# The dashboard needs the program prometheus: apt-get install prometheus, or make PROMETHEUS=/path/to/prometheus.
# ARGS=redraw draws its last recording again, for instance after a change of a title.
pictures: $(READY) ## draw docs/pictures from runs of the sandbox, in nine minutes; ARGS="demo kubectl-get" for these two
	@PROMETHEUS=$(PROMETHEUS) $(BIN)/python tools/pictures.py $(ARGS)

links: ## request each link of the pages to another site; needs a network
	@$(PYTHON) tools/links.py

# What the examples are for: their objects must be valid for these releases.
FOREIGN_CRDS ?= .foreign-crds
CRDS_OF := https://raw.githubusercontent.com
foreign-crds: ## download the CRDs of Argo, Flux and Tekton: FOREIGN_CRDS=.foreign-crds make e2e tests the examples with them
	@mkdir -p $(FOREIGN_CRDS)
	@curl --fail --silent --show-error --location --output-dir $(FOREIGN_CRDS) --remote-name-all \
	  $(CRDS_OF)/argoproj/argo-workflows/v4.1.2/manifests/base/crds/full/argoproj.io_workflowtemplates.yaml \
	  $(CRDS_OF)/argoproj/argo-cd/v3.5.1/manifests/crds/application-crd.yaml \
	  $(CRDS_OF)/fluxcd/source-controller/v1.9.1/config/crd/bases/source.toolkit.fluxcd.io_gitrepositories.yaml \
	  $(CRDS_OF)/fluxcd/kustomize-controller/v1.9.4/config/crd/bases/kustomize.toolkit.fluxcd.io_kustomizations.yaml \
	  $(CRDS_OF)/tektoncd/pipeline/v1.15.0/config/300-crds/300-task.yaml \
	  $(CRDS_OF)/tektoncd/pipeline/v1.15.0/config/300-crds/300-taskrun.yaml

plugin: ## build kubectl awsbatch into dist/: one executable file, and the archive and manifest for krew
	@$(PYTHON) tools/plugin.py dist

docs: $(READY) ## regenerate the generated files
	$(BIN)/python tools/api_docs.py > docs/api.md
	$(BIN)/python tools/helm_chart.py readme
	$(BIN)/python tools/install_yaml.py > deploy/install.yaml

UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
locks: $(READY) ## update the lock files
	$(UV_COMPILE) pyproject.toml -o locks/operator.txt
	$(UV_COMPILE) --extra sandbox --group dev pyproject.toml -o locks/dev.txt
	$(UV_COMPILE) --constraint locks/dev.txt --extra sandbox --group build pyproject.toml -o locks/sandbox.txt
	$(UV_COMPILE) --constraint locks/dev.txt --group build -o locks/build.txt
	$(UV_COMPILE) --constraint locks/dev.txt --group uv -o locks/uv.txt
	$(UV_COMPILE) --group zizmor -o locks/zizmor.txt
	$(UV_COMPILE) --no-deps --group schemas -o locks/schemas.txt

clean: ## remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .sandbox .coverage*
