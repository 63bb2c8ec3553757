# Dormouse. Each target does its own set-up; they need Python 3.11 or later with venv, and nothing else.
#   make demo    local agents, work dispatched at random, the page on http://127.0.0.1:8000
#   make run     the real thing, for the Docker Engine that DOCKER_HOST names
#   make test    make check    make bench

PORT ?= 8000
PYTHON ?= python3
VENV := .venv/bin

.PHONY: help demo run test check bench pictures clean
help:
	@sed -n '2,4p' Makefile | cut -c3-

demo: .venv/run.stamp
	@exec $(VENV)/python manage.py demo --port $(PORT)

run: .venv/run.stamp
	@$(VENV)/python manage.py migrate --verbosity 0
	@$(VENV)/python manage.py create_admin
	@echo "The Agents page is on http://127.0.0.1:$(PORT)/agents/. Quit with Ctrl-C."
	@exec $(VENV)/python -m daphne -b 127.0.0.1 -p $(PORT) config.asgi:application

test: .venv/dev.stamp
	@PYTHONDEVMODE=1 $(VENV)/python -m pytest $(ARGS)

check: .venv/dev.stamp
	@$(VENV)/ruff check .
	@$(VENV)/ruff format --check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/python manage.py makemigrations --check --dry-run
	@DJANGO_HTTPS=true DJANGO_SECRET_KEY="$$($(VENV)/python -c 'import secrets; print(secrets.token_urlsafe(50))')" \
		$(VENV)/python manage.py check --deploy --fail-level WARNING

# With a Docker Engine named by DORMOUSE_TEST_DOCKER_HOST, cold starts too. ARGS="--help" explains.
bench: .venv/dev.stamp $(if $(DORMOUSE_TEST_DOCKER_HOST),.venv/bench.stamp)
	@$(VENV)/python -m benchmarks $(ARGS)

pictures: .venv/dev.stamp
	@$(VENV)/python -m tools.pictures

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

.venv/run.stamp: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: apt-get install python3 (or say which: make PYTHON=python3.12 ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "Python's venv is needed: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	$(VENV)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt .venv/run.stamp
	$(VENV)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.venv/bench.stamp: requirements-bench.txt .venv/run.stamp
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@
