# `make help` lists the targets. Each first makes .venv, if it is missing or out of date.
# PYTHON=python3.9 chooses the Python; ARGS="--epochs 10" is passed to the command that the target runs.

SHELL = /bin/sh
py = .venv/bin/python
UV = uv==0.13.9
# installs more into .venv, at the versions locked for its Python
install = $(py) -m pip install -q -c requirements/$$($(py) -c \
  'import sys; print("constraints.txt" if sys.version_info < (3, 12) else "locked-3.12.txt")') -r

help:            ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

compare: .venv/ready     ## the main job: train LeNet without batch norm, with ours and with Gluon's
	$(py) -m gluon_bn compare $(ARGS)

# loadfile: all tests of a file run in one process, so that their fixtures are made once.
parallel = -n $(JOBS) --dist loadfile
JOBS = auto

test: .venv/ready        ## the fast tests, on every core (JOBS=1 for one)
	$(py) $(RUN) -m pytest -m "not slow" $(parallel) $(ARGS)

test-slow: .venv/ready   ## the tests that train for longer or grade (ARGS=--long: at full length)
	$(py) $(RUN) -m pytest -m "slow and not browser and not container" -n $(JOBS) --dist worksteal $(ARGS)

coverage: .venv/ready    ## the tests and the notebooks, and their coverage of gluon_bn: at least 95 %
	$(py) -m coverage erase
	$(MAKE) test test-slow RUN="-m coverage run"
	$(MAKE) notebooks RUN="-m coverage run" ARGS=--check
	$(py) -m coverage combine -q
	$(py) -m coverage report

# An empty cache and a PATH without a compiler simulate a machine that has none.
test-portable: .venv/ready ## the fast tests of the layer and of training, without a C++ compiler
	rm -rf build/no-compiler
	env -u CXX PATH="$(CURDIR)/.venv/bin" GLUON_BN_CACHE="$(CURDIR)/build/no-compiler" $(CURDIR)/$(py) -m pytest -m "not slow" \
	  tests/norm/test_layer.py tests/norm/test_fused.py tests/test_model.py tests/training/test_loop.py tests/training/test_estimation.py \
	  $(parallel) $(ARGS)

test-pythons: .venv/ready ## the fast tests on every Python from 3.8 to 3.14
	$(py) -m nox -f tools/noxfile.py $(ARGS)

test-fresh: .venv/ready  ## the README's commands on bare systems: ARGS="12 13 forky --tests --notebooks --record"; needs root, debootstrap
	$(py) tools/fresh.py $(ARGS)

test-container: .venv/ready ## build the container and use it: ARGS="-k amd64" (or arm64); needs root, debootstrap and buildah
	$(py) -m pytest -m container $(ARGS)

test-browser: .venv/ready ## JupyterLab and the book in Chromium
	$(install) requirements/book.txt
	$(py) -m pytest -m browser $(ARGS)

faults: .venv/ready      ## the tests that simulate faults, and their table in tests/README.md
	rm -f build/faults.json
	$(py) -m pytest -m "fault and not browser and not container" --long --faults=build/faults.json $(ARGS)
	$(py) tools/faults.py

# 432 mistakes and 108 pairs: several minutes. ARGS="48 12 0 backward d2l --write": mistakes, pairs, seed, kind, style.
mistakes: .venv/ready    ## what the check says about generated mistakes, by kind and style
	PYTHONPATH=.:tests:tools $(py) tests/mutations.py $(ARGS)

notebooks: .venv/ready   ## run every notebook from 1 to n and save it
	$(py) $(RUN) tools/notebooks.py $(ARGS)

tables: .venv/ready      ## update the tables of claims and speeds in the pages
	$(py) tools/claims.py
	$(py) tools/speed.py

book: .venv/ready        ## the notebooks as a web site, in build/book
	$(install) requirements/book.txt
	$(py) tools/book.py

assignment: .venv/ready  ## the exercises to hand out, in build/assignment
	$(py) -m gluon_bn.classroom.assignment $(ARGS)

student-copy: .venv/ready ## what students get: the assignment and what it needs, in build/gluon_bn-students.zip
	$(py) -m gluon_bn.classroom.student_copy $(ARGS)

grade: .venv/ready       ## grade the notebooks in SUBMISSIONS=folder, into runs/grades; needs bubblewrap
	$(py) -m gluon_bn.classroom.grade $${SUBMISSIONS:+"$$SUBMISSIONS"} $(ARGS)

grade-example: .venv/ready ## grade a class of five made-up hand-ins, in runs/grade-example; needs bubblewrap
	$(py) -m gluon_bn.classroom.example $(ARGS)

wheelhouse: .venv/ready  ## put all that set-up needs in build/wheelhouse, for `make WHEELHOUSE=folder compare` without a network
	$(py) tools/wheelhouse.py $(ARGS)

lab: .venv/ready         ## JupyterLab on the notebooks
	env $$($(py) -m gluon_bn.system.threads) $(py) -m jupyterlab notebooks $(ARGS)

bench: .venv/ready       ## the benchmark, with PyTorch if it can be installed
	$(install) requirements/torch.txt || echo "PyTorch cannot be installed: its column stays empty"
	$(py) -m gluon_bn bench $(ARGS)

soak: .venv/ready        ## train for an hour (MINUTES=60): memory and speed stay constant, and nothing hangs
	$(py) tools/soak.py --minutes $${MINUTES:-60}

# The doctor must run even if .venv cannot be made, on any Python.
doctor:          ## check what works on this machine, and say what to do about the rest
	@$(MAKE) --no-print-directory .venv/ready || true
	@for python in $(py) $(PYTHON) python3 python3.11 python3.10 python3.9 python3.8 python3.14 python3.13 python3.12 python pypy3; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 7))' 2>/dev/null; then \
	    exec "$$python" -m gluon_bn doctor; \
	  fi; \
	done; \
	echo "The doctor needs Python, and none was found."; exit 1

# NumPy 2's type hints use Python 3.12 syntax, but mypy checks for 3.8.
lint: .venv/ready        ## ruff, the pairs of notebooks, mypy, and the direction of imports
	$(py) -m ruff check .
	$(py) -m ruff format --check .
	$(py) -m pytest -q tests/pages/test_notebooks.py -k pair
	$(py) -m mypy $$($(py) -c 'import sys; print("--no-site-packages" * (sys.version_info >= (3, 12)))')
	.venv/bin/lint-imports

# uv solves for every supported Python and platform at once. The requirements include requirements/constraints.txt,
# which is about to be rewritten: grep drops that line.
compile = grep -hv '^-c' requirements.txt requirements/test.txt requirements/book.txt | UV_CUSTOM_COMPILE_COMMAND="make lock" \
  $(py) -m uv pip compile - -c requirements/constraints.in --universal --no-annotate --upgrade -q

lock: .venv/ready        ## rewrite requirements/constraints.txt and locked-3.12.txt
	$(py) -m pip install -q $(UV)
	$(compile) --python-version 3.8 -o requirements/constraints.txt
	$(compile) --python-version 3.12 --override requirements/overrides.in -o requirements/locked-3.12.txt

clean:           ## remove .venv and all other generated files, except runs/
	rm -rf .venv .nox build dist *.egg-info .coverage* .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# `ready` is written last, so an interrupted installation never counts as finished.
.venv/ready: requirements.txt requirements/test.txt requirements/constraints.txt requirements/locked-3.12.txt pyproject.toml \
             tools/make_venv.sh tools/mxnet.pth
	@sh tools/make_venv.sh "$(PYTHON)"

# PYTHON=... names another Python than that in .venv: remake it
ifdef PYTHON
ifneq ($(shell sh tools/make_venv.sh --describe "$(PYTHON)"),$(shell cat .venv/ready 2>&1))
.venv/ready: FORCE
endif
endif

# a package was removed or replaced by hand, or the Python of .venv is gone: repair it
ifneq ($(wildcard .venv/ready),)
ifneq ($(shell sh tools/make_venv.sh --changed),)
.venv/ready: FORCE
endif
endif

FORCE:
.PHONY: FORCE help compare test test-slow coverage test-portable test-pythons test-fresh test-container test-browser faults mistakes notebooks tables book assignment student-copy grade grade-example wheelhouse lab bench soak doctor lint lock clean
