# The same verbs here and in .ci/run. Everything they make is in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup sound postgresql demo test attack check bench clean

setup: $(VENV)/runtime.ok  ## make .venv with what Loa runs on

$(VENV)/python.ok:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Loa needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/runtime.ok: $(VENV)/python.ok requirements/runtime.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.ok: $(VENV)/runtime.ok requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

demo: setup  ## a station and six loudspeakers on this machine, measured
	$(BIN)/loa demo

# A machine may take a core away from what is measured. So what failed in real time runs once more when
# all others are done: what fails again is broken. Any other end, as of pytest itself, is an end.
test: $(VENV)/dev.ok  ## all tests: the pure ones in parallel, then the real-time ones one by one
	$(BIN)/pytest -n auto -m "not realtime"
	$(BIN)/pytest -m realtime --durations=15 || { [ $$? -eq 1 ] && \
	  echo "Once more, what failed:" && \
	  $(BIN)/pytest -m realtime --last-failed --last-failed-no-failures none; }

attack: $(VENV)/dev.ok  ## a million hostile datagrams, hundreds of kills: a tenth of it is in `make test`; root
	LOA_ATTACK=full $(BIN)/pytest -m realtime -s tests/attack

check: $(VENV)/dev.ok  ## formatter, linter, strict types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

sound: setup  ## for sound cards; needs the system's PortAudio (Debian: libportaudio2)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/sound.lock

postgresql: setup  ## for a station whose database is on a PostgreSQL server
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/postgresql.lock

bench: $(VENV)/dev.ok  ## the published figures, measured here
	$(BIN)/loa bench latency
	$(BIN)/loa bench latency --playout-delay 20 --frame-ms 5
	$(BIN)/loa bench seal

clean:
	rm -rf $(VENV)
