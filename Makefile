# Every command a person types; `make` alone lists them.
PYTHON ?= python3
DEMO ?= demo
BIRDS ?= 3000
SEED ?= 0
BIN := .venv/bin
STAMP := .venv/set-up-done
unexport PYTHONDONTWRITEBYTECODE # importing torch without compiled files takes three times as long
UV = $(or $(shell command -v uv),$(BIN)/uv)
LOCK = $(UV) pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11
IMAGE ?= attngan/python
BASE_IMAGE ?= python:3.11-slim-bookworm
DOCKER_BUILD ?= # more options for docker build, such as --network host
REVISION = $(shell $(BIN)/python -c 'from attngan.storage.artifacts import code_revision; print(code_revision())')

BENCH ?=
RUN ?=

.PHONY: help setup demo bench test test-all test-docker smoke format lint golden compile submit image images image-name image-push lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-11s %s\n' "$$name" "$$text"; done
	@echo 'Variables: DEMO=demo BIRDS=3000 SEED=0 (demo), BENCH=flags (bench), RUN=flags (submit),'
	@echo '  IMAGE=attngan/python BASE_IMAGE=... DOCKER_BUILD=flags (image), PYTHON=python3 (setup); make demo SEED=1'

setup: $(STAMP) ## make .venv with everything attngan needs
$(STAMP): requirements/requirements.txt requirements/uv.txt requirements/set_up.py pyproject.toml
	@$(PYTHON) requirements/set_up.py

demo: $(STAMP) $(DEMO)/birds/palette.json ## run the whole pipeline on drawn birds, on this machine
	@$(BIN)/python pipeline.py run --source $(DEMO)/birds --config toy --out $(DEMO)
$(DEMO)/birds/palette.json: $(DEMO)/.birds-$(BIRDS)-$(SEED) | $(STAMP)
	@rm -rf $(DEMO)/birds && $(BIN)/attngan draw-birds --out $(DEMO)/birds --count $(BIRDS) --seed $(SEED)
$(DEMO)/.birds-$(BIRDS)-$(SEED): # newer than the birds where those are others
	@mkdir -p $(DEMO) && rm -f $(DEMO)/.birds-* && touch $@

test: $(STAMP) ## run the tests (3 to 4 minutes on two cores, no network, no GPU)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist loadfile -m "not slow and not gpu and not docker"

test-all: $(STAMP) ## run every test this machine can, the slow ones too
	$(BIN)/python -m pytest -q

test-docker: $(STAMP) ## run the steps and the pipeline in the container image of this commit
	$(BIN)/python -m pytest -q -rs -m docker

bench: $(STAMP) ## measure what makes it fast, each part the plain way and ours (BENCH="--quick --only damsm")
	@$(BIN)/python -m benchmarks $(strip $(BENCH))

smoke: $(STAMP) ## run the six steps at the smallest size
	$(BIN)/python -m pytest -q tests/end_to_end/test_pipeline.py

format: $(STAMP) ## put the code into its format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(STAMP) ## check format and style
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

golden: $(STAMP) ## write the promised numbers in tests/golden anew
	$(BIN)/python -m pytest -q tests/golden/test_golden.py --golden

compile: $(STAMP) ## write build/pipeline.yaml for a cluster
	$(BIN)/python pipeline.py compile --out build/pipeline.yaml

submit: $(STAMP) ## run the pipeline on a cluster (RUN="--source gs://... --pipeline-root gs://...")
	@$(BIN)/python pipeline.py submit $(strip $(RUN))

image: $(STAMP) ## build the container image, tagged with the commit
	rm -rf dist build/lib build/bdist.*
	$(UV) build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	tar -c images requirements dist | docker build $(DOCKER_BUILD) --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg REVISION=$(REVISION) -t $(IMAGE):$(REVISION) -f images/Dockerfile -

images: image ## the same: all steps share one image

image-name: $(STAMP) ## print the name that the image gets
	@echo $(IMAGE):$(REVISION)

image-push: image ## push it; IMAGE=registry/name says where to
	@case $(REVISION) in *-dirty|unknown) echo "image-push: commit first, the tag $(REVISION) would not say what is in it" >&2; exit 2;; esac
	docker push $(IMAGE):$(REVISION)

lock: $(STAMP) ## resolve requirements/*.in anew
	$(LOCK) --upgrade requirements/requirements.in -o requirements/requirements.txt
	$(LOCK) --upgrade requirements/uv.in -o requirements/uv.txt
	$(LOCK) --constraint requirements/requirements.txt --extra gcs --extra s3 --extra trainer --extra clip --extra serve --extra mlflow --extra projected pyproject.toml -o requirements/image.txt
	echo kfp | $(LOCK) --no-deps --constraint requirements/requirements.txt - -o requirements/image-kfp.txt

clean: ## remove what was built and the demo, keep .venv
	rm -rf build dist $(DEMO) .pytest_cache .ruff_cache .hypothesis *.egg-info
