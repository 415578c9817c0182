# Each target sets up what it needs by itself; the first one to run makes .venv (about 6 GB, most of it PyTorch).
PYTHON ?= python3
ifdef MINIAI_DATA
export MINIAI_DATA := $(abspath $(MINIAI_DATA))
endif
BIN := .venv/bin
# on a terminal, pip shows how far it is
PIP := install $(if $(MAKE_TERMOUT),,--quiet) --disable-pip-version-check -c constraints.txt

.PHONY: help lesson test dev lab notebooks bench readme docs site-check lab-check clean
help:       ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/:/'
lesson: .venv/.run   ## train the lesson's network, diagnose it, train it as advised, write lesson.html
	@$(BIN)/miniai-lesson
test: .venv/.dev     ## are notebooks clean, package and README up to date, and does every notebook pass? T=04 tests one
	@$(BIN)/python .ci/tools.py test $(T)
dev: .venv/.dev      ## make .venv, with all that the notebooks and their tests need
lab: .venv/.dev      ## open the notebooks in Jupyter
	@$(BIN)/jupyter lab nbs
notebooks: .venv/.dev  ## run every notebook anew and store its outputs; T=04 runs one
	@$(BIN)/python .ci/tools.py notebooks $(T)
bench: .venv/.dev .venv-bench/.bench  ## measure the loop beside other libraries, and store the table
	@.venv-bench/bin/python .ci/tools.py notebooks proofs/speed
	@$(BIN)/nbdev_clean
readme: .venv/.dev   ## write README.md from nbs/index.ipynb
	@$(BIN)/python .ci/tools.py readme
docs: .venv/.dev     ## build the site in _docs/: with Quarto where it is installed, else with MkDocs
	@$(BIN)/python .ci/docs.py
site-check: docs     ## look at each page of the site in Chromium: errors, links, widths; screenshots in _proc/
	@$(BIN)/python .ci/browser.py site
lab-check: .venv/.dev  ## open a notebook in JupyterLab in Chromium, and run all its cells
	@$(BIN)/python .ci/browser.py lab
clean:               ## remove the environment and what was built
	rm -rf .venv .venv-* build dist *.egg-info _docs _proc

.venv/bin/python:
	@echo "Making a Python environment in .venv"
	@$(PYTHON) -m venv .venv
.venv/.run: .venv/bin/python settings.ini setup.py constraints.txt
	@echo "Installing miniai with PyTorch into .venv: some 6 GB and a few minutes, the first time"
	@$(BIN)/pip $(PIP) -e .
	@touch $@
.venv/.dev: .venv/.run
	@echo "Installing what tests and notebooks need into .venv: about a minute, the first time"
	@$(BIN)/pip $(PIP) -e '.[dev]'
	@touch $@
.venv-bench/.bench: settings.ini setup.py constraints.txt
	@echo "Installing the libraries to compare with into .venv-bench: some 7 GB and a few minutes, the first time"
	@$(PYTHON) -m venv .venv-bench
	@grep -v fastcore constraints.txt > .venv-bench/constraints.txt  # fastai needs a newer one than nbdev does
	@.venv-bench/bin/pip install --quiet --disable-pip-version-check -c .venv-bench/constraints.txt -e '.[bench]'
	@touch $@
