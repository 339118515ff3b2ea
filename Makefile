# A machine with Debian 12 and a checkout needs nothing else: every target installs what it takes.
#
#   make demo             see it work                     make check   lint, format, types
#   make demo-containers  see it work with containers
#   make test [ARGS=...]  the test suite                  make clean   remove what the targets made
#   make bench [QUICK=1]  figures beside kernel veth      make lock    renew requirements.lock
#   make man              manual pages, into build/man
#   make generate         docs/rpc.md and the client's types, from the methods' rows
#   make chaos [SEED=n] [MINUTES=10]  random actions on a daemon under traffic; the same seed repeats them
#   make soak [MINUTES=10]  full load, memory and descriptors over time, into soak.png
#   make churn            500 containers come and go, ten at a time
#   make fuzz [MINUTES=10]  hostile clients, for that long and until the round is done
#   make install          put it in place below PREFIX (and DESTDIR); make uninstall takes it away

PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
VENV := .venv
PEERS := vdeplug socat openvswitch-switch  # what else joins two TAPs; `make bench` compares
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# What make setup takes from Debian, and what for.
APT := python3-venv  # the virtual environment
APT += gcc           # wheels are not published for every machine: python-pytun, and the compiled datapath
APT += python3-dev
APT += liburing-dev  # frame I/O by io_uring; without it, by read and write
APT += iproute2      # namespaces
APT += iputils-ping  # make demo
APT += iperf3
APT += nftables      # masquerading

# What make demo-containers takes.
APT_CONTAINERS := runc
APT_CONTAINERS += busybox-static  # what its containers consist of
APT_CONTAINERS += jq              # edits config.json of a bundle

# What the tests take beside both.
APT_TEST := ethtool   # offloads
APT_TEST += tcpdump   # captures on both ends
APT_TEST += socat     # the control socket by hand
APT_TEST += man-db    # shows the manual pages
APT_TEST += iptables  # masquerading where there is no nft; docker and podman need it
APT_TEST += zsh       # completion
APT_TEST += fish
APT_TEST += systemd   # boots inside tests of the service
APT_TEST += dbus      # systemctl as a user, there
APT_TEST += crun      # runtimes, each of which has tests
APT_TEST += podman
APT_TEST += catatonit # the first process of its pods
APT_TEST += containernetworking-plugins  # IPAM, and what our CNI plugin is compared with
APT_TEST += docker.io # containerd comes with it
APT_TEST += lxc
APT_TEST += systemd-container
APT_TEST += uidmap    # rootless podman

.PHONY: setup setup-containers setup-tests demo demo-containers test check bench chaos churn soak fuzz man generate wheels install uninstall lock clean

setup: $(VENV)/.ready
	@echo "setup: vethd and vethctl are in $(VENV)/bin"

# What `pip install` compiles; an older extension would run instead of a newer source.
COMPILED := $(wildcard vethd/datapath/*.py vethd/worker/*.py vethd/*/*.pxd vethd/*/*.pyx)

# Installs those of Debian's packages $(1) that are missing.
define install
	@missing=; for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q ' installed$$' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ] && ! command -v apt-get >/dev/null; then \
		echo "setup: no apt-get here, going on without Debian's$$missing"; \
	elif [ -n "$$missing" ]; then \
		echo "setup: apt-get install$$missing"; \
		$(SUDO) apt-get -qq update && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $$missing >/dev/null; \
	fi
endef

$(VENV)/.ready: Makefile pyproject.toml setup.py requirements.lock $(COMPILED)
	$(call install,$(APT))
	@echo "setup: virtual environment in $(VENV), packages of requirements.lock"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install -qq --disable-pip-version-check -r requirements.lock
	@echo "setup: vethd itself, editable"
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

setup-containers: $(VENV)/.ready
	$(call install,$(APT_CONTAINERS))

setup-tests: $(VENV)/.ready
	$(call install,$(APT_CONTAINERS) $(APT_TEST))

demo: $(VENV)/.ready
	@$(SUDO) env PATH="$(CURDIR)/$(VENV)/bin:$$PATH" docs/demo.sh

demo-containers: setup-containers
	@$(SUDO) env PATH="$(CURDIR)/$(VENV)/bin:$$PATH" docs/demo-containers.sh

# VETHD_NO_EXTENSIONS=1 tests the interpreted datapath, VETHD_REQUIRE_EXTENSIONS=1 insists on the compiled one;
# VETHD_FRAMEIO=syscalls or uring tests daemons with that frame I/O.
SPEED := $(foreach v,VETHD_NO_EXTENSIONS VETHD_REQUIRE_EXTENSIONS VETHD_FRAMEIO,$(if $($(v)),$(v)=$($(v))))

test: setup-tests
	@$(SUDO) env $(SPEED) $(VENV)/bin/python -m pytest $(ARGS)

check: $(VENV)/.ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

man: $(VENV)/.ready
	@$(VENV)/bin/python -m docs.manual build/man

# What `make install` installs, so that it needs no network: the packages that vethd runs with, and vethd. What setup has
# compiled is not compiled again.
WHEEL := $(VENV)/bin/pip wheel -qq --disable-pip-version-check --no-build-isolation -w build/wheels

wheels: build/wheels/.ready

build/wheels/.packages: $(VENV)/.ready
	@rm -rf build/wheels
	@$(WHEEL) -c requirements.lock $$($(VENV)/bin/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])')
	@touch $@

build/wheels/.ready: build/wheels/.packages $(shell find vethd -name '*.py' -o -name '*.pyi')
	@rm -rf build/wheels/vethd-* build/lib.*
	@lib=build/lib.$$($(VENV)/bin/python -c 'import sys, sysconfig; \
		print(f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}")') && \
	mkdir -p $$lib && find vethd -name '*.so' -exec cp -p --parents -t $$lib {} +
	@$(WHEEL) --no-deps .
	@mkdir -p build/completion && for shell in bash zsh fish; do \
		$(VENV)/bin/vethctl completion $$shell >build/completion/$$shell; done
	@touch $@

INSTALL := env PREFIX=$(PREFIX) SYSCONFDIR=$(SYSCONFDIR) DESTDIR=$(DESTDIR) PYTHON=$(PYTHON) sh install.sh

install: build/wheels/.ready man
	@$(if $(DESTDIR),,$(SUDO)) $(INSTALL) install

uninstall:
	@$(if $(DESTDIR),,$(SUDO)) $(INSTALL) uninstall

generate: $(VENV)/.ready
	@$(VENV)/bin/python -m vethd.rpc.generate

# QUICK=1: ours and kernel veth alone, short runs. Otherwise also the neighbours, and the chart.
bench: setup-tests
	@$(if $(QUICK),,$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(PEERS) >/dev/null)
	@$(if $(QUICK),,$(VENV)/bin/pip install -qq --disable-pip-version-check --no-build-isolation --editable '.[bench]')
	@$(SUDO) env $(SPEED) $(VENV)/bin/python -m benchmarks $(if $(QUICK),--quick,--json bench.json --png bench.png) $(ARGS)
	@$(if $(QUICK),,$(SUDO) $(VENV)/bin/python -m benchmarks.measure_pairs)
	@$(if $(QUICK),,$(SUDO) $(VENV)/bin/python -m benchmarks.measure_cni)
	@$(SUDO) env $(SPEED) $(VENV)/bin/python -m benchmarks.measure_control $(if $(QUICK),--quick)

# Half of the MINUTES for requests under a coverage-guided fuzzer, half for hostile clients of a daemon.
MINUTES ?= 10
FUZZER = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["fuzz"])

fuzz: setup-tests
	@$(VENV)/bin/pip install -qq --disable-pip-version-check $$($(VENV)/bin/python -c '$(FUZZER)')
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && $(VENV)/bin/python -m tests.rpc.fuzz.atheris_requests \
		-max_total_time=$$(($(MINUTES) * 30)) -verbosity=0 -print_final_stats=1 "$$tmp"
	@end=$$(($$(date +%s) + $(MINUTES) * 30)); while [ $$(date +%s) -lt $$end ]; do \
		$(SUDO) env $(SPEED) $(VENV)/bin/python -m pytest -q tests/rpc/fuzz --hypothesis-profile=long || exit; \
	done

SEED ?= $(shell shuf -i 1-999999 -n 1)

chaos: setup-tests
	@$(SUDO) env $(SPEED) CHAOS_SEED=$(SEED) CHAOS_MINUTES=$(MINUTES) $(VENV)/bin/python -m pytest -q tests/chaos $(ARGS)

churn: setup-tests
	@$(SUDO) env $(SPEED) CHURN=500 $(VENV)/bin/python -m pytest -q -s tests/e2e/containers/test_churn.py $(ARGS)

soak: setup-tests
	@$(VENV)/bin/pip install -qq --disable-pip-version-check --no-build-isolation --editable '.[bench]'
	@$(SUDO) env $(SPEED) $(VENV)/bin/python -m benchmarks.soak --minutes $(MINUTES) --png soak.png $(ARGS)

# Resolves the ranges of pyproject.toml anew, in an environment that holds nothing else.
lock:
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp"/bin/pip install -qq --disable-pip-version-check --upgrade setuptools 'Cython>=3.1,<4' --editable '.[bench,test]' && \
	{ echo '# Written by `make lock` on Python 3.11: what CI and `make setup` install.'; \
	  "$$tmp"/bin/pip freeze --all --exclude-editable --exclude pip; } > "$$tmp"/lock && \
	cp "$$tmp"/lock requirements.lock

clean:
	@$(SUDO) rm -rf $(VENV) build .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@$(SUDO) find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@$(SUDO) rm -f vethd/*/*.so vethd/*/*.c
