# Everything a new machine needs is make and one of Python 3.11 to 3.14. The first of PYTHON is taken that
# runs (pyenv's commands may not), is of these versions, and can make environments.
PYTHON ?= python3.14 python3.13 python3.12 python3.11 python3
FITS := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))
FOUND = $(firstword $(foreach python,$(PYTHON),$(shell $(python) -c '$(FITS)' 2>/dev/null && echo $(python))))
NONE = no Python 3.11 to 3.14 with venv and ensurepip among: $(PYTHON). Install one (Debian, Ubuntu: with \
  python3-venv), or say where one is: make PYTHON=/path/to/python
VENV ?= .venv
BIN := $(VENV)/bin
# uv takes a third of pip's time, but does not read pip's settings: it is told the two that say where packages
# are. With others: make INSTALL='.venv/bin/pip install'
WHERE := $(if $(PIP_INDEX_URL),--index-url $(PIP_INDEX_URL)) $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS))
INSTALL ?= $(BIN)/uv pip install --quiet --python $(BIN)/python $(WHERE)

# What a wheel must have: the version of pyproject.toml, told of in CHANGELOG.md, and what is no code.
WHOLE := import tomllib, sparse_rl; from pathlib import Path; here = Path(sparse_rl.__file__).parent; \
  version = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]; \
  assert here.parent.name == "installed" and sparse_rl.__version__ == version, sparse_rl.__version__; \
  assert f"\n\#\# {version}" in Path("CHANGELOG.md").read_text(), version; \
  assert all((here / name).exists() for name in ("py.typed", "conf/sweep.yaml", "kernels/kernels.h")); \
  print("dist/ holds sparse_rl", version)

# Types are checked beside the tests, which wait now and then; what mypy says comes last, and both must pass.
BESIDE = log=$$(mktemp); $(BIN)/mypy >$$log 2>&1 & types=$$!; tests=0; \
  $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 20 || tests=$$?; \
  wait $$types; types=$$?; cat $$log; rm -f $$log; test $$tests = 0 && test $$types = 0

.PHONY: demo test docs reference claim claim-train check mutants fuzz learning patterns comparators actors actors-speed minatar drq lqr lqr-real benchmark ppo-benchmark drq-benchmark curricula-benchmark jaxued-benchmark convolution-benchmark storage-benchmark accelerator overhead loading soak host-benchmark physics-benchmark rendering-benchmark simba-benchmark compiled-against-host teams-reference dmc-small release clean

demo: $(VENV)/.core  ## train the default study and write its report (minutes)
	$(BIN)/python -m sparse_rl.sweep
	$(BIN)/python -m sparse_rl.report results/demo

test: $(VENV)/.dev  ## the whole test suite, with lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BESIDE)

docs: $(VENV)/.docs  ## the site, without network: build/docs/index.html (seconds)
	$(BIN)/python -m sphinx -W --keep-going -n -q -d build/doctrees docs build/docs
	@echo "docs: file://$(CURDIR)/build/docs/index.html"

reference: $(VENV)/.core  ## the pages of keys, presets and columns, written from the code (seconds)
	$(BIN)/python docs/reference/write.py

mutants: $(VENV)/.dev  ## faults put into a copy of the code: do the tests notice? (hours; resumes)
	PYTHONPATH=tests $(BIN)/python -m mutation $(OPTIONS)

fuzz: $(VENV)/.dev  ## thousands of command lines and damaged files: is any taken amiss? (an hour)
	PYTHONPATH=tests $(BIN)/python -m fuzzing $(OPTIONS)

CLAIMS := dmc_small teams memory claim_cartpole
claim: $(VENV)/.core  ## what our archived studies say of the claim, and its figures (a minute)
	mkdir -p build/results
	for study in $(CLAIMS); do tar -xJf docs/results/$$study.tar.xz -C build/results; done
	$(BIN)/python -m sparse_rl.claim build/results/dmc_small build/results/teams --figures build/claim
	$(BIN)/python -m sparse_rl.claim build/results/memory --tune agent.learning_rate --margin 0.1 \
	  --figures build/claim
	$(BIN)/python -m sparse_rl.claim build/results/claim_cartpole --tune agent.learning_rate --beyond 64 \
	  --base 64 --margin 25 --figures build/claim

claim-train: $(VENV)/.core  ## train the families of the claim that two cores can reach (a day)
	$(BIN)/python -m sparse_rl.sweep study=claim_cartpole
	$(BIN)/python -m sparse_rl.sweep study=rate_transfer_ppo
	$(BIN)/python -m sparse_rl.sweep study=memory
	$(BIN)/python -m sparse_rl.sweep study=claim_minatar
	$(BIN)/python -m sparse_rl.sweep study=streaming

learning: $(VENV)/.dev  ## two DM Control tasks, dense and 90 % sparse (about an hour)
	$(BIN)/python -m sparse_rl.sweep study=learning
	$(BIN)/python -m sparse_rl.report results/learning

teams-reference: $(VENV)/.dev  ## numbers of teams to compare with: six algorithms, three environments (many hours)
	$(BIN)/python -m sparse_rl.sweep study=teams_reference
	$(BIN)/python benchmarks/teams_reference.py results/teams_reference

patterns: $(VENV)/.dev  ## what structure costs: three patterns on two tasks (about an hour)
	$(BIN)/python -m sparse_rl.sweep study=patterns
	$(BIN)/python -m sparse_rl.sweep study=patterns sparsity=0 pruning=unstructured
	$(BIN)/python -m sparse_rl.sweep study=patterns_cartpole
	$(BIN)/python -m sparse_rl.sweep study=patterns_cartpole sparsity=0 pruning=unstructured
	$(BIN)/python benchmarks/patterns.py results/patterns

comparators: $(VENV)/.core  ## static masks beside masks that change and dense resets (an hour and a half)
	$(BIN)/python -m sparse_rl.sweep study=comparators
	$(BIN)/python -m sparse_rl.sweep study=comparators sparsity=0 pruning=unstructured
	$(BIN)/python -m sparse_rl.sweep study=comparators sparsity=0 pruning=unstructured agent.reset_every=1500
	$(BIN)/python -m sparse_rl.sweep study=comparators_cartpole
	$(BIN)/python -m sparse_rl.sweep study=comparators_cartpole sparsity=0 pruning=unstructured
	$(BIN)/python benchmarks/patterns.py results/comparators

actors: $(VENV)/.core  ## what many parallel actors buy: PAAC with 16 to 512 (a quarter of an hour)
	$(BIN)/python -m sparse_rl.sweep study=paac_actors
	$(BIN)/python benchmarks/actors.py results/paac_actors

actors-speed: $(VENV)/.core  ## env steps per second by number of actors, and what the time goes to (minutes)
	$(BIN)/python benchmarks/actors_speed.py

minatar: $(VENV)/.core  ## scaling curves of PPO and PAAC on Breakout (an hour on two cores)
	$(BIN)/python -m sparse_rl.sweep study=minatar
	$(BIN)/python -m sparse_rl.report results/minatar

drq: $(VENV)/.core  ## scaling curves of DrQ-v2 on cart-pole from pixels (eight hours on two cores)
	$(BIN)/python -m sparse_rl.sweep study=drq
	$(BIN)/python -m sparse_rl.report results/drq

lqr: $(VENV)/.core  ## the calibration bench: workers, sparsity and theory on LQR (four minutes)
	-$(BIN)/python -m sparse_rl.sweep study=lqr  # large steps diverge: that is a result
	$(BIN)/python -m sparse_rl.sweep study=lqr_durations
	-$(BIN)/python -m sparse_rl.sweep study=lqr_entries
	-$(BIN)/python -m sparse_rl.sweep study=lqr_map
	$(BIN)/python -m sparse_rl.report results/lqr

lqr-real: $(VENV)/.core  ## the same with worker processes on the real clock (a few minutes, machine idle)
	$(BIN)/python -m sparse_rl.sweep study=lqr_real
	$(BIN)/python -m sparse_rl.report results/lqr

PRODUCTS ?= float32
storage-benchmark: $(VENV)/.core  ## time and memory of the storages beside dense (about an hour)
	$(BIN)/python benchmarks/storage.py --products $(PRODUCTS)

DEVICE ?= gpu
JAX_gpu := jax[cuda13]
JAX_tpu := jax[tpu]
JAX_cpu := jax
accelerator: $(VENV)/.core  ## what is not known of a device: DEVICE=gpu, tpu or cpu (ten minutes)
	$(INSTALL) -e '.[mjx,teams]' '$(JAX_$(DEVICE))'
	$(BIN)/python -m sparse_rl.selftest --device $(DEVICE) $(OPTIONS)

overhead: $(VENV)/.core  ## what a sweep of 10,000 runs costs before it trains (a minute)
	$(BIN)/python benchmarks/overhead.py

loading: $(VENV)/.core  ## how long 10,000 runs of 100 rows take to load (a minute)
	$(BIN)/python benchmarks/loading.py

soak: $(VENV)/.dev  ## kill sweeps at random, with every launcher (half an hour)
	$(BIN)/python benchmarks/soak.py

benchmark: $(VENV)/.bench  ## speed beside a Python-loop implementation (minutes)
	$(BIN)/python benchmarks/sac_against_sbx.py

ppo-benchmark: $(VENV)/.core  ## PPO beside purejaxrl's; PUREJAXRL=a checkout of it (a quarter of an hour)
	$(BIN)/python benchmarks/ppo_against_purejaxrl.py $(PUREJAXRL)

drq-benchmark: $(VENV)/.core  ## frames per second and memory of DrQ-v2 (minutes)
	$(BIN)/python benchmarks/drq.py

curricula-benchmark: $(VENV)/.core  ## what choosing levels costs, beside a cycle (minutes)
	$(BIN)/python benchmarks/curricula.py

jaxued-benchmark: $(VENV)/.dev  ## curricula beside JaxUED's; JAXUED=a checkout of it (half an hour)
	$(BIN)/python benchmarks/curricula_against_jaxued.py $(JAXUED)

convolution-benchmark: $(VENV)/.core  ## convolutions by our kernel, with patches and by XLA (a minute)
	$(BIN)/python benchmarks/convolutions.py

host-benchmark: $(VENV)/.dev  ## training on Atari beside its bare environments (minutes)
	$(BIN)/python benchmarks/host_path.py

physics-benchmark: $(VENV)/.dev  ## DM Control on threads, in processes, and MuJoCo's bare physics (minutes)
	$(BIN)/python benchmarks/physics.py

rendering-benchmark: $(VENV)/.dev  ## what a picture of the control suite costs, drawn offscreen (a minute)
	$(BIN)/python benchmarks/rendering.py

COPY ?= ../SparseNetwork4DRL
PYTHON_OF_COPY ?= $(COPY)/.venv/bin/python
simba-benchmark: $(VENV)/.dev  ## humanoid-walk beside the public SimBa loop: COPY=its checkout (minutes)
	$(BIN)/python benchmarks/dmc_against_simba.py --copy $(COPY) --python $(PYTHON_OF_COPY) --products $(PRODUCTS)

compiled-against-host: $(VENV)/.dev  ## two tasks compiled and on the host, five seeds each (about an hour)
	$(BIN)/python -m sparse_rl.sweep study=compiled_against_host
	$(BIN)/python benchmarks/compiled_against_host.py results/compiled_against_host

dmc-small: $(VENV)/.dev  ## the published study in small: two tasks, three widths, four sparsities (hours)
	$(BIN)/python -m sparse_rl.sweep study=dmc_small
	$(BIN)/python -m sparse_rl.report results/dmc_small

release: $(VENV)/.release  ## build and check wheel and sdist in dist/; nothing is published
	rm -rf build dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m pip install --quiet --no-deps --target build/installed dist/*.whl
	PYTHONPATH=build/installed $(BIN)/python -P -c '$(WHOLE)'

$(VENV)/bin/python:
	$(or $(FOUND),$(error $(NONE))) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(BIN)/uv: | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.core: pyproject.toml | $(BIN)/uv
	$(INSTALL) -e '.[report]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/uv
	$(INSTALL) -e '.[dev]'
	touch $@ $(VENV)/.core $(VENV)/.docs

$(VENV)/.docs: pyproject.toml | $(BIN)/uv
	$(INSTALL) -e '.[docs]'
	touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/uv
	$(INSTALL) -e '.[bench]'
	touch $@

$(VENV)/.release: pyproject.toml | $(BIN)/uv
	$(INSTALL) --group release
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
