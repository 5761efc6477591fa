# What people and CI run. PYTHON chooses the interpreter that .venv is made from.
PYTHON ?= python3
VENV   ?= .venv
STAMP  := $(VENV)/.installed

.PHONY: venv bench report test check clean

venv: $(STAMP)

$(STAMP): pyproject.toml ci/constraints.txt ci/venv.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" ci/venv.sh
	@touch $(STAMP)

bench: $(STAMP)
	VENV="$(VENV)" ci/bench.sh

report: $(STAMP)
	VENV="$(VENV)" ci/report.sh

test: $(STAMP)
	VENV="$(VENV)" ci/test.sh

check: $(STAMP)
	VENV="$(VENV)" ci/check.sh

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
