# make reproduce [PROFILE=smoke|laptop|medium|paper-short|paper] [SEEDS="0 1 2"]   everything, from a bare machine to the verdicts
# make test                                                                 unit tests and every notebook
# make install                                                              .venv with the locked versions; the other targets do it too
# make browser                                                              notebooks in JupyterLab and the report, in Debian's Chromium
# make slurm PROFILE=paper WORKERS=4 [GPU=1] [SLURM="--slurm-partition long"]   the same workers and notebooks as jobs of Slurm
# make benchmarks                                                           every claim about speed or strength of attacks, measured anew
# make lab [LAB="--no-browser --port 8890"]                                JupyterLab in the same environment
PYTHON ?= python3
PROFILE ?= smoke
SEEDS ?=
WORKERS ?= 2
PROFILES := smoke laptop medium paper-short paper
BIN := .venv/bin
INSTALLED := .venv/.installed

# Compiled once: of the thousands of installed modules, what a worker and a notebook import.
IMPORTED := import timm, fpdlib.report.claims, fpdlib.report.notebook, art.attacks.evasion, art.estimators.classification, foolbox, \
	pyautoattack, ipykernel.kernelapp, papermill, snakemake.cli, matplotlib.pyplot

# What came of attacking committed networks again, beside the notebooks; an error if it came out otherwise.
AGAIN := cat build/$(PROFILE)/again.txt; ! grep -q '^error' build/$(PROFILE)/again.txt

# Where some results could not be computed (1), as without a data set, `make reproduce` shows the others and then fails.
.PHONY: install reproduce test browser slurm benchmarks lab lint lock clean
.DELETE_ON_ERROR:

install: $(INSTALLED)

reproduce: $(INSTALLED)
	@$(if $(filter $(PROFILE),$(PROFILES)),true,echo "error: PROFILE is $(PROFILE); accepted: $(PROFILES)." >&2; exit 2)
	@$(BIN)/python -m fpdlib report --profile laptop && echo "The answer so far, from committed evidence: open it. Now $(PROFILE) is computed."
	@mkdir -p build/$(PROFILE); $(BIN)/python -m fpdlib work --profile $(PROFILE) $(if $(SEEDS),--seeds $(SEEDS)); \
	    echo $$? > build/$(PROFILE)/work; test $$(cat build/$(PROFILE)/work) -le 1
	$(if $(SEEDS),FPD_PUBLISH=build/seeds) FPD_COMPUTE=0 $(BIN)/snakemake --cores all --nolock --rerun-incomplete --forceall --quiet all \
	    --config profile=$(PROFILE) $(if $(SEEDS),seeds="$(SEEDS)")
	$(if $(SEEDS),FPD_PUBLISH=build/seeds) $(BIN)/python -m fpdlib table all --profile $(PROFILE)
	$(if $(SEEDS),FPD_PUBLISH=build/seeds) $(BIN)/python -m fpdlib report --profile $(PROFILE)
	@$(AGAIN)
	@exit $$(cat build/$(PROFILE)/work)

# A file (or notebook) stays with one worker; a worker takes about 1.5 GB.
test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout 1200 notebooks tests

browser: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python playwright
	$(BIN)/python -m pytest tests/browser.py

slurm: $(INSTALLED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python snakemake-executor-plugin-slurm
	FPD_COMPUTE=0 $(BIN)/snakemake --executor slurm --jobs $(WORKERS) --nolock --rerun-incomplete --forceall $(SLURM) \
	    --config profile=$(PROFILE) workers=$(WORKERS) $(if $(GPU),resources=gpu) $(if $(SEEDS),seeds="$(SEEDS)")
	@$(AGAIN)

benchmarks: $(INSTALLED)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/workers.py smoke 1 2
	$(BIN)/python benchmarks/art010_vs_today.py
	$(BIN)/python benchmarks/radius_vs_autoattack.py laptop 40 Deep F X F_FD F_FD+R "longer/F (ten times as long)" ReLU ELU+Tanh

lab: $(INSTALLED)
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB) notebooks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	"error: $(PYTHON) is Python %d.%d; accepted: 3.11 to 3.13. Run: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -c '$(IMPORTED)'
	@touch $@

# New versions on purpose only: the committed results belong to the locked ones.
lock: $(INSTALLED)
	$(BIN)/uv pip compile pyproject.toml --extra test --universal --python-version 3.11 --no-annotate --no-header \
	    -o requirements.lock

clean:
	rm -rf build .snakemake .pytest_cache .ruff_cache
