# `make demo` and `make test` need Python 3.11 or newer, and nothing else that is installed.
# PYTHON=... picks the interpreter, JOBS=... the number of test processes, ARGS=... adds options.

# In English or Chinese, as the commands: ours comes before the system's variables.
CHINESE := $(filter zh%,$(firstword $(DINGRELAY_LANGUAGE) $(LC_ALL) $(LC_MESSAGES) $(LANG)))
COMMA := ,
SAY = $(if $(CHINESE),$(strip $(2)),$(1))

VENV := .venv
BIN := $(VENV)/bin
RUNNABLE := $(VENV)/.runnable
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
JOBS ?= 2

# The oldest Python that is supported comes first: what works there works on the others.
PYTHONS := $(PYTHON) python3.11 python3.12 python3.13 python3
FIND_PYTHON = for name in $(PYTHONS); do \
	if $$name -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$name; exit; fi; done; \
	echo "$(call SAY,no Python 3.11 or newer with venv was found; set PYTHON=/path/to/python,\
	没有找到带 venv 的 Python 3.11 或更高版本；请设置 PYTHON=/path/to/python)" >&2; exit 1

# Each of the many processes would compile all modules again where the environment forbids to keep it.
unexport PYTHONDONTWRITEBYTECODE

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --upgrade --quiet
ARQ := $(VENV)/arq/.installed
SDKS := $(VENV)/sdks/.installed $(VENV)/dingding/.installed $(VENV)/samples/.installed
# Where npm is not there, the tests of what is for Node say so and are skipped.
SDKS += $(if $(shell command -v npm),$(VENV)/node/.installed)

# Of `make soak`.
HOURS ?= 1
# Of `make chaos`: how many seeds, each of so many seconds, from which on, how many at once.
SEEDS ?= 1
SECONDS ?= 60
SIMULATION := PYTHONPATH=ops/simulation $(BIN)/python -m dingrelay_simulation
CHAOS := PYTHONPATH=ops/chaos $(BIN)/python -m dingrelay_chaos

.PHONY: help setup demo test test-failed test-fast test-docs releases image-test schema-test coverage simulate simulate-mutations chaos chaos-mutations soak check wheel clean \
	image sbom \
	bench bench-docs site up lock translations dashboards alerts

help: ## show the targets
	@awk 'FILENAME != "$(firstword $(MAKEFILE_LIST))" { name = $$1; sub(/^[^ ]* /, ""); chinese[name] = $$0; next } \
		match($$0, /^[a-z-]+:.*## /) { said = substr($$0, RLENGTH + 1); name = substr($$0, 1, index($$0, ":") - 1); \
		printf "  make %-20s%s\n", name, (name in chinese) ? chinese[name] : said }' \
		$(if $(CHINESE),ops/words/make.zh-CN.txt) $(firstword $(MAKEFILE_LIST))

setup: $(INSTALLED) ## create .venv with everything that the tests and checks need

# Prints how far pip is: on a terminal a line that counts, elsewhere one for each twenty packages. A pipe has the
# exit code of its last command, so the failure is a line of its own.
PROGRESS = $(call SAY,%d of %d packages,第 %d 个包，共 %d 个)
INSTALL = { $(BIN)/python -m pip --disable-pip-version-check install --require-hashes \
	$(addprefix -r ,$(1)) || echo failed; } | { number=0; total=$$(cat $(1) | grep -c ==); while read -r word rest; do case $$word in \
	Collecting|Ignoring|Requirement) number=$$((number + 1)); \
		if test -t 1; then printf '\r$(PROGRESS)' $$number $$total; \
		elif test $$((number % 20)) = 0; then printf '$(PROGRESS)\n' $$number $$total; fi;; \
	Installing) test ! -t 1 || echo; echo "$(call SAY,putting them into,正在装入) $(VENV)";; \
	failed) exit 1;; esac; done; }

# Its translations are compiled where it is installed.
CATALOGUES := $(wildcard producers/dingrelay_producers/locale/*/LC_MESSAGES/dingrelay.po)

# Packages come with their hashes, and ours is built with what is locked: nothing else gets in.
$(RUNNABLE): requirements.lock pyproject.toml $(CATALOGUES)
	@test -x $(BIN)/python || { python=$$($(FIND_PYTHON)) && $$python -m venv $(VENV); }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "$(call SAY,fetching what it runs with: a minute or a few$(COMMA) once,下载运行所需的依赖，需要一到几分钟，只有第一次)"
	@$(call INSTALL,requirements.lock)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements-dev.lock $(RUNNABLE)
	@echo "$(call SAY,fetching what it is tested with: a minute or a few$(COMMA) once,下载测试所需的依赖，需要一到几分钟，只有第一次)"
	@$(call INSTALL,requirements.lock requirements-dev.lock)
	@touch $@

demo: $(RUNNABLE) ## watch the main jobs run on a local DingTalk (ARGS=--keep leaves it running)
	@$(BIN)/dingrelay demo $(ARGS)

# Most of a test process's time is waiting: so many keep two cores busy.
test: JOBS = 9
test: setup $(SDKS) ## run all tests; they bring their own servers
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# More than these would be the change, not the machine.
FEW := 3
test-failed: setup ## run again, one by one, the few tests that failed in the last run
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --co -q --no-header \
		| awk '/::/ { print "failed before: " $$0; failed++ } END { exit failed > $(FEW) }'
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS)

test-fast: setup ## run the tests that start no worker, in less than a minute
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not acceptance" \
		tests/unit tests/fundamentals $(ARGS)

test-docs: setup ## run every block of code of every page, in both languages
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/fundamentals tests/integration/test_gateway_guide.py \
		tests/integration/test_webhook_guide.py tests/acceptance/test_own_kind.py tests/acceptance/test_recurring.py $(ARGS)

releases: setup ## mix the release before with this one under load, two minutes (needs the history of git)
	RELEASES=1 $(BIN)/python -m pytest tests/acceptance/test_previous_release.py $(ARGS)

# A new clone builds it for minutes; later only what has changed is built.
image-test: setup ## build the image and run every service and pod in it (needs root and Debian's packages)
	IMAGE_TEST=1 $(BIN)/python -m pytest tests/integration/test_image.py $(ARGS)

# 300 requests of each operation, and what belongs to its edges and links.
EXAMPLES ?= 300
schema-test: setup ## ask the gateway all that its OpenAPI document says, 10 minutes
	SCHEMA_EXAMPLES=$(EXAMPLES) SCHEMA_PHASES=examples,coverage,fuzzing,stateful \
		$(BIN)/python -m pytest -s tests/integration/test_gateway_schema.py $(ARGS)

coverage: JOBS = 4
coverage: setup $(SDKS) ## run all tests and tell which branches none of them took
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(JOBS) --dist worksteal $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# A single seed is replayed, and printed whatever becomes of it.
simulate: SEEDS := $(if $(SEED),1,100)
simulate: setup ## run the fleet in virtual time under faults (SEEDS=10000 SEED=17 JOBS=2)
	@$(SIMULATION) --seed $(or $(SEED),1) --seeds $(SEEDS) --jobs $(JOBS) --small $(if $(SEED),--verbose --twice) $(ARGS)

simulate-mutations: setup ## take behaviours out one by one and see whether simulated seeds notice, an hour
	@$(SIMULATION).mutations --jobs $(JOBS) $(ARGS)

chaos-mutations: setup ## undo fixes one by one and see whether chaos notices, 20 minutes
	@PYTHONPATH=ops/chaos:ops/simulation $(BIN)/python -m dingrelay_chaos.mutations --jobs $(JOBS) $(ARGS)

chaos: setup ## run the system under random faults and check it (SEEDS=100 SECONDS=60 SEED=17 JOBS=2)
	@$(CHAOS) --seeds $(SEEDS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --jobs $(JOBS) $(ARGS)

soak: setup ## hours of mixed traffic with a kill a minute: does anything grow? (HOURS=1)
	@$(CHAOS) --soak $(HOURS) $(ARGS)

dashboards: $(RUNNABLE) ## write Grafana's dashboards as JSON into ops/grafana/dashboards
	@$(BIN)/python ops/grafana/dashboards.py

RULE := ops/kubernetes/examples/prometheusrule.yaml
alerts: ## write the alerts as a PrometheusRule for Kubernetes
	@{ sed '/^spec:/q' $(RULE); sed 's/^./  &/' ops/prometheus/alerts.yml; } > $(RULE).new && mv $(RULE).new $(RULE)

translations: setup ## bring the catalogue up to date with the code, and name what is not translated
	@$(BIN)/python ops/translations/catalogue.py

check: setup ## lint, format, types, layers, words; tags of images that were not checked for long are named
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python ops/words/glossary.py
	$(BIN)/python ops/images/image_tags.py

# Of the lock, what the wheel is built with.
BUILDERS := babel hatchling packaging pathspec pluggy tomlkit trove-classifiers
BUILDING := $(VENV)/building
wheel: ## build the wheel into dist/; .ci/try-wheel tries it outside the checkout
	@rm -rf dist
	@python=$$($(FIND_PYTHON)) && $$python -m venv $(BUILDING)
	@awk -v names=" $(BUILDERS) " '/^[a-z]/ { split($$1, name, "=="); wanted = index(names, " " name[1] " ") } wanted' \
		requirements.lock > $(BUILDING)/requirements.lock
	@$(BUILDING)/bin/python -m pip --quiet --disable-pip-version-check install --require-hashes \
		-r $(BUILDING)/requirements.lock
	$(BUILDING)/bin/python -m pip --quiet --disable-pip-version-check wheel --no-deps --no-build-isolation \
		--wheel-dir dist .

clean: ## delete what was made here but .dingrelay, which has data: .venv, wheels, caches, dashboards
	rm -rf $(VENV) dist build ops/grafana/dashboards .*_cache .hypothesis .schemathesis .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} +
	find producers -name '*.mo' -delete

# Of `make image` and `make sbom`: docker, or where that is not there buildah.
IMAGE ?= dingrelay:$(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
BUILDER ?= $(if $(shell command -v docker),docker,buildah)
BUILD = $(BUILDER) build --file ops/Dockerfile $(if $(BASE),--build-arg BASE=$(BASE)) \
	$(if $(PIP_INDEX_URL),--build-arg PIP_INDEX_URL=$(PIP_INDEX_URL)) $(ARGS)
image: ## build the image with docker or buildah (IMAGE=NAME:TAG BASE=... PIP_INDEX_URL=...)
	$(BUILD) --tag $(IMAGE) .

sbom: ## write what the image has in it into dist/sbom.cdx.json, as CycloneDX
	@mkdir -p dist
	$(BUILD) --target sbom --output dist .

bench: setup $(ARQ) ## measure all figures beside peers, 20 minutes (ARGS="--only A" measures one)
	@$(BIN)/python ops/bench/run.py $(ARGS)

# An environment of what others need, which finds behind it what ours has: the lock names only the rest.
BESIDE_OURS = @$(BIN)/python -m venv --clear --without-pip $(@D) && \
	$(PIP) --python $(@D)/bin/python install --no-deps --require-hashes -r $< && \
	for site in $(@D)/lib/python*/site-packages; do \
		echo ../../../../lib/$$(basename $${site%/*})/site-packages > $$site/ours.pth && touch $@; done

# arq needs an older redis-py than ours.
$(ARQ): ops/bench/peers/arq.lock | $(INSTALLED)
	$(BESIDE_OURS)

# DingTalk's clients, which the sandbox must satisfy; two of them are called `dingtalk`.
$(VENV)/%/.installed: tests/sdks/%.lock | $(INSTALLED)
	$(BESIDE_OURS)

$(VENV)/node/.installed: tests/sdks/node/package-lock.json | $(INSTALLED)
	@mkdir -p $(VENV)/node
	@cp tests/sdks/node/package.json tests/sdks/node/package-lock.json $(VENV)/node
	@npm ci --prefix $(VENV)/node --silent --no-audit --no-fund --ignore-scripts
	@touch $@

SITE := $(VENV)/site/.installed
$(SITE): ops/site/mkdocs.lock | $(INSTALLED)
	$(BESIDE_OURS)

# What draws the diagrams; without npm the browser fetches it from elsewhere.
MERMAID := mermaid-11.17.2.tgz
MERMAID_SHA256 := 6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd
DIAGRAMS := $(VENV)/site/mermaid.min.js
$(DIAGRAMS): $(SITE)
	@cd $(@D) && npm pack --silent $(subst mermaid-,mermaid@,$(basename $(MERMAID))) >/dev/null
	@cd $(@D) && echo "$(MERMAID_SHA256)  $(MERMAID)" | $(if $(shell command -v sha256sum),sha256sum,shasum -a 256) --check --status
	@cd $(@D) && tar -xzOf $(MERMAID) package/dist/mermaid.min.js > mermaid.min.js && rm $(MERMAID)

# Of `make site`: its output, and the address at which it will stand, for links in it that need one.
SITE_DIR ?= site
SITE_URL ?=
site: setup $(SITE) $(if $(shell command -v npm),$(DIAGRAMS)) ## build the documents as a site into site/ (SITE_URL=... where it will stand)
	@$(BIN)/python ops/site/assemble.py $(VENV)/site/pages
	@NO_MKDOCS_2_WARNING=1 JIEBA_WORDS=ops/site/words.txt SITE_URL=$(SITE_URL) PYTHONPATH=ops/site $(VENV)/site/bin/python -m mkdocs build --strict \
		--config-file $(VENV)/site/mkdocs.yml --site-dir $(abspath $(SITE_DIR))

bench-docs: setup ## write what docs/bench.json says into the READMEs and the charts
	@$(BIN)/python ops/bench/document.py

pictures: setup ## take the pictures of the console and the demo that the documents show (needs Chromium)
	@$(BIN)/python ops/pictures/console.py
	@$(BIN)/python ops/pictures/demo.py

up: $(RUNNABLE) ## run the whole system here, with a local DingTalk
	$(BIN)/dingrelay up --sandbox $(ARGS)

# What is tested is what it runs with, and what requirements-dev.lock adds. The locks of others have what these
# two have not.
lock: ## choose all versions again (needs uv)
	$(LOCK) pyproject.toml --all-extras --group build --output-file requirements.lock
	$(LOCK) pyproject.toml --all-extras --group dev --constraint requirements.lock \
		$$(sed -n 's/==.*//p' requirements.lock | sed 's/^/--no-emit-package /') \
		--output-file requirements-dev.lock
	$(LOCK) --group arq --output-file ops/bench/peers/arq.lock
	$(LOCK) --group sbom --output-file ops/sbom.lock
	$(LOCK) --group samples --output-file tests/sdks/samples.lock
	$(LOCK) --group site --output-file ops/site/mkdocs.lock
	$(LOCK) --group sdks --output-file tests/sdks/sdks.lock
	$(LOCK) --group sdk-dingding --output-file tests/sdks/dingding.lock
	for lock in ops/bench/peers/arq.lock ops/site/mkdocs.lock tests/sdks/*.lock; do \
		awk 'FNR == 1 { files++ } /^[^ ]/ { ours = $$0 in named; named[$$0] } files == 3 && !ours' \
			requirements.lock requirements-dev.lock $$lock > $$lock.new && mv $$lock.new $$lock; done
	npm install --prefix tests/sdks/node --package-lock-only --omit-lockfile-registry-resolved
