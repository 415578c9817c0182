# Each target sets up what it needs by itself; the first one to run makes .venv (about 6 GB, most of it PyTorch).
PYTHON ?= python3
ifdef MINIAI_DATA
export MINIAI_DATA := $(if $(filter /%,$(firstword $(MINIAI_DATA))),$(MINIAI_DATA),$(CURDIR)/$(MINIAI_DATA))
endif
# files are read as what they are, wherever one lives; figures are drawn as the notebooks say
export PYTHONUTF8 := 1
unexport MPLBACKEND
# pip's scripts may not find their Python where a path has a space in it: everything is a module of this one
PY := .venv/bin/python
BENCH := .venv-bench/bin/python
# on a terminal, pip shows how far it is
PIP := -m pip install $(if $(MAKE_TERMOUT),,--quiet) --disable-pip-version-check

.PHONY: help lesson generate test dev lab notebooks bench trainers torture readme host docs site-check lab-check clean
help:       ## this list
	@grep -E '^[a-z-]+: .*##' Makefile | sed 's/:[^#]*##/:/'
lesson: .venv/.run   ## train the lesson's network, diagnose it, train it as advised, write lesson.html
	@$(PY) -c 'from miniai.lesson import main; main()'
generate: .venv/.run ## train a small net that makes garments out of noise, write garments.html; goes on if it was stopped
	@$(PY) -c 'from miniai.generate import main; main()'
test: .venv/.dev     ## are notebooks clean, package and README up to date, and does every notebook pass? T=04 tests one
	@$(PY) .ci/tools.py test $(T)
dev: .venv/.dev      ## make .venv, with all that the notebooks and their tests need
lab: .venv/.dev      ## open the notebooks in Jupyter; FLAGS=--allow-root and the like are passed on
	@$(PY) -m jupyterlab $(FLAGS) nbs
notebooks: .venv/.dev  ## run the notebooks again and store their outputs, but for proofs with a long form; T=04 runs one
	@$(PY) .ci/tools.py notebooks $(T)
bench: .venv/.dev .venv-bench/.bench  ## measure the loop beside other libraries, and store the table
	@$(BENCH) .ci/tools.py notebooks proofs/speed
	@$(PY) .ci/tools.py nbdev_clean
trainers: .venv/.dev .venv-bench/.bench  ## watch the trainers of other libraries, and compare with other tools; stores the tables
	@$(BENCH) .ci/tools.py notebooks proofs/trainers proofs/rivals
	@$(PY) .ci/tools.py nbdev_clean
torture: .venv/.dev  ## kill training processes 200 times, and see whether what goes on ends in the same state
	@MINIAI_KILLS=200 $(PY) .ci/tools.py notebooks proofs/kill
readme: .venv/.dev   ## write README.md from nbs/index.ipynb
	@$(PY) .ci/tools.py readme
host: .venv/.dev     ## URL=https://host/owner/repo: say everywhere where the repository is hosted; URL= says it nowhere
	@$(PY) .ci/host.py $(URL)
	@$(PY) .ci/tools.py nbdev_export
	@$(PY) .ci/tools.py readme
docs: .venv/.dev     ## build the site in _docs/: with Quarto where it is installed, else with MkDocs
	@$(PY) .ci/docs.py
site-check: docs     ## look at each page of the site in Chromium: errors, links, widths; screenshots in _proc/
	@$(PY) .ci/browser.py site
lab-check: .venv/.dev  ## open a notebook in JupyterLab in Chromium, and run all its cells
	@$(PY) .ci/browser.py lab
clean:               ## remove the environment and what was built
	rm -rf .venv .venv-* build dist *.egg-info _docs _proc

$(PY):
	@echo "Making a Python environment in .venv"
	@$(PYTHON) -m venv .venv
.venv/.run: $(PY) settings.ini setup.py constraints.txt
	@echo "Installing miniai with PyTorch into .venv: some 6 GB and a few minutes, the first time"
	@$(PY) $(PIP) -c constraints.txt -e .
	@touch $@
.venv/.dev: .venv/.run
	@echo "Installing what tests and notebooks need into .venv: about a minute, the first time"
	@$(PY) $(PIP) -c constraints.txt -e '.[dev]'
	@touch $@
.venv-bench/.bench: settings.ini setup.py constraints.txt
	@echo "Installing the libraries to compare with into .venv-bench: some 7 GB and a few minutes, the first time"
	@$(PYTHON) -m venv .venv-bench
	@grep -v fastcore constraints.txt > .venv-bench/constraints.txt  # fastai needs a newer one than nbdev does
	@$(BENCH) $(PIP) -c .venv-bench/constraints.txt -e '.[bench]'
	@touch $@
