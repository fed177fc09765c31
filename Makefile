# The commands of the repository. Every target sets up what it needs.

UV_VERSION := 0.13.9
UV := .tools/uv/bin/uv
RUN := .venv/bin/
RIE := .tools/rie/samcli/local/rapid/aws-lambda-rie-x86_64

export UV_PROJECT_ENVIRONMENT := .venv
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo up test test-long test-clients clients mutants check format docs bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: .venv/.ready $(RIE) ## install everything into .venv/ and .tools/

demo: setup ## vend tokens through both functions, use them, be denied
	@$(RUN)tokenvend local demo

up: setup ## the embedded cloud and both functions, until Ctrl-C [WORLD=file]
	@$(RUN)tokenvend local up $(if $(WORLD),--world $(WORLD))

test: setup ## the whole suite
	@$(RUN)pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-long: setup ## the properties with 100,000 examples each
	@HYPOTHESIS_PROFILE=long $(RUN)pytest -m hypothesis

test-clients: setup clients ## Cloud Storage as its clients speak it, 300 MiB objects included
	@ALL_CELLS=1 $(RUN)pytest tests/clients

clients: .tools/clients/.ready .tools/node/.ready ## install the clients that tests/clients runs

mutants: setup ## every guard taken away in turn: do its tests notice? (minutes)
	@$(RUN)python tests/mutants/run.py

check: setup ## format, lint, types, import rules, template
	@infra/check $(RUN)

format: setup ## rewrite the sources in the house format
	@$(RUN)ruff format . && $(RUN)ruff check --fix .

docs: setup ## rewrite the pages that are made from the code
	@$(RUN)tokenvend local routes --markdown >infra/local/README.md

bench: setup ## the benchmark tables
	@for table in tests/bench/bench_*.py; do $(RUN)python $$table; done

clean: ## remove what the targets made
	rm -rf .venv .tools .local dist

$(UV):
	@echo "Setting up: uv $(UV_VERSION)"
	@python3 -m venv .tools/uv
	@.tools/uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.ready: $(UV) pyproject.toml uv.lock .python-version
	@echo "Setting up: the project's environment (once; about a minute on a cold cache)"
	@$(UV) python find --quiet >/dev/null 2>&1 || $(UV) python install || \
		{ echo "tokenvend needs Python 3.13: install it (python.org, pyenv, your distribution) and run make again."; exit 1; }
	@$(UV) sync --quiet --frozen --all-extras
	@touch $@

$(RIE): $(UV) infra/local/emulator.txt
	@echo "Setting up: the Lambda Runtime Interface Emulator"
	@$(UV) pip install --quiet --no-deps --require-hashes --requirement infra/local/emulator.txt \
		--link-mode copy --target .tools/rie --python .tools/uv/bin/python
	@chmod 755 .tools/rie/samcli/local/rapid/aws-lambda-rie-*
	@touch $@

.tools/clients/.ready: $(UV) tests/clients/requirements.txt .python-version
	@echo "Setting up: clients of Cloud Storage (Python, C++, Rust)"
	@$(UV) venv --quiet --clear .tools/clients
	@$(UV) pip install --quiet --python .tools/clients/bin/python --requirement tests/clients/requirements.txt
	@touch $@

.tools/node/.ready: tests/clients/node/package.json tests/clients/node/package-lock.json
	@command -v npm >/dev/null || { echo "npm is not installed: no client for Node"; exit 0; }; \
		echo "Setting up: the client of Cloud Storage for Node"; \
		mkdir -p .tools/node && cp tests/clients/node/*.json .tools/node/ && \
		npm --prefix .tools/node ci --silent --no-audit --no-fund && touch $@
