# Dormouse. Each target does its own set-up; they need Python 3.11 or later with venv, and nothing else.

PORT ?= 8000
PYTHON ?= python3
VENV := .venv/bin
# The compiled files are complete: pip has nothing to resolve, so a release of tomorrow changes nothing.
PIP := $(VENV)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps
COVERAGE_ARGS := $(if $(COVERAGE),--cov --cov-report=term:skip-covered)

# Tests run in two processes, because they mostly wait (JOBS=0: in one). tests/groups.py says which stay together.
JOBS ?= 2
PYTEST := $(VENV)/python -m pytest $(if $(filter-out 0,$(JOBS)),--numprocesses $(JOBS) --dist loadscope --no-loadscope-reorder)

# Compose builds the same image if there is none.
IMAGE_ARGS := $(if $(BASE),--build-arg BASE=$(BASE))

.PHONY: help demo run image free-port test test-fast check format bench soak pictures requirements pre-commit clean
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s %s\n", $$1, $$2 }'

demo: free-port .venv/run.stamp ## three local agents, work dispatched at random, the page on http://127.0.0.1:8000 (PORT=)
	@exec $(VENV)/python manage.py demo --port $(PORT)

run: free-port .venv/run.stamp ## serve the Docker Engine that DOCKER_HOST names, on http://127.0.0.1:8000 (PORT=)
	@$(VENV)/python manage.py migrate --verbosity 0
	@$(VENV)/python manage.py create_admin
	@exec $(VENV)/python -m config.serve --port $(PORT)

image: ## build the image `dormouse` with Docker (BASE=another base image, ARGS="--network host")
	@docker build --file deploy/Dockerfile --tag dormouse $(IMAGE_ARGS) $(ARGS) .

test: .venv/dev.stamp ## everything that this machine can run (ARGS="-k tail" for some of it, COVERAGE=1 with coverage)
	@PYTHONDEVMODE=1 $(PYTEST) $(COVERAGE_ARGS) $(ARGS)

test-fast: .venv/dev.stamp ## the inner loop: tests that start no server, container or browser, in under a minute
	@$(PYTEST) --quiet -m "not server and not docker and not swarm and not browser and not node and not postgres and not slow" $(ARGS)

check: .venv/dev.stamp ## ruff, mypy, import-linter, migrations, requirements, check --deploy
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/python manage.py makemigrations --check --dry-run
	@$(VENV)/python -m tools.requirements
	@DJANGO_HTTPS=true DJANGO_SECRET_KEY="$$($(VENV)/python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
		$(VENV)/python manage.py check --deploy --tag security --fail-level WARNING

format: .venv/dev.stamp ## format the code, and mend what ruff can mend
	@$(VENV)/ruff check --fix .
	@$(VENV)/ruff format .

# With a Docker Engine named by DORMOUSE_TEST_DOCKER_HOST and a swarm by DORMOUSE_TEST_SWARM_HOST, cold starts too.
bench: .venv/dev.stamp $(if $(DORMOUSE_TEST_DOCKER_HOST),.venv/bench.stamp) ## measure, and write docs/benchmarks.md (ARGS="--help")
	@$(VENV)/python -m benchmarks $(ARGS)

soak: .venv/dev.stamp ## load a web process as strangers and hostile agents would, on 127.0.0.1 (ARGS="--help")
	@$(VENV)/python -m benchmarks.soak $(ARGS)

pictures: .venv/dev.stamp ## take the pictures of the README, with Chromium
	@$(VENV)/python -m tools.pictures

requirements: .venv/dev.stamp ## compile requirements*.in to requirements*.txt, with hashes
	@$(VENV)/python -m tools.requirements --write

pre-commit: .venv/dev.stamp ## run the quick checks before each commit of this clone (.pre-commit-config.yaml does the same)
	@printf '#!/bin/sh\nexec make check\n' > "$$(git rev-parse --git-path hooks)/pre-commit"
	@chmod +x "$$(git rev-parse --git-path hooks)/pre-commit"
	@echo "Before each commit of this clone, make check runs."

clean: ## remove the virtual environment and the caches; var/ stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

free-port: # first of all, so that a taken port is said before anything is installed
	@$(PYTHON) -m tools.port $(PORT)

.venv/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: apt-get install python3 (or name one: make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "Python's venv is needed: apt-get install python3-venv"; exit 1; }
	@echo "Installing the packages of requirements.txt into .venv, once. That takes about a minute."
	$(PYTHON) -m venv .venv
	$(PIP) -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(PIP) -r requirements-dev.txt
	@touch $@

.venv/bench.stamp: requirements-bench.txt .venv/run.stamp
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@
