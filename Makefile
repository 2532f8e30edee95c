# The only list of commands. Targets that need packages install them first; nothing is started that was not running.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TRY_DIR ?= $(CURDIR)/.try
SIM ?=
# For bench-placement: a trace with the columns of AzurePublicDataset V1, and one customer in how many is kept.
TRACE ?=
ONE_IN ?= 4
CARGO ?= cargo
CHAOS_SECONDS ?= 600
CHAOS_SEED ?= 1
SETUP := tests/setup/packages.sh

# Built once, by root alone, for the tests with real guests; without it they build one of their own.
TEMPLATE = if test "$$(id -u)" = 0 && ! test -f $(TRY_DIR)/templates/debian-12-xrdp.json; then \
  target/debug/nemordp-installer template build debian-12-xrdp --out $(TRY_DIR)/templates --cache $(TRY_DIR)/cache; fi
WITH_TEMPLATE = if test -f $(TRY_DIR)/templates/debian-12-xrdp.json; then export NEMORDP_TEMPLATE_DIR=$(TRY_DIR)/templates; fi
BENCH_ROUNDS ?= 5

.PHONY: help try try-down test chaos bench-control check format bless deny setup-build setup-live setup-test setup-bench bench-order bench-placement template

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

ifeq ($(SIM),1)
try: ## One order from API to proven login (SIM=1: without hypervisor and root)
	@command -v cc >/dev/null || { echo "a C compiler is needed: apt install build-essential"; exit 1; }
	$(CARGO) build -p nemordp-control-plane -p nemordp
	$(CARGO) build -p nemordp-tests --no-default-features --bin nemordp-try
	$(CARGO) build -p nemordp-agent --bin nemordp-agent --no-default-features --features sim
	target/debug/nemordp-try up --sim --dir $(TRY_DIR)-sim
else
try: setup-build setup-live
	$(CARGO) build --workspace --bins
	target/debug/nemordp-try up --dir $(TRY_DIR)
endif

try-down: ## Stop what `make try` started and remove it; ends by saying what is left
	@test -x target/debug/nemordp-try || { echo "nothing was started"; exit 0; }
	@if test -d $(TRY_DIR); then target/debug/nemordp-try down --dir $(TRY_DIR); fi
	@if test -d $(TRY_DIR)-sim; then target/debug/nemordp-try down --sim --dir $(TRY_DIR)-sim; fi

test: setup-build setup-live setup-test ## Install what the tests need and run them all, the live ones included
	$(CARGO) fmt --all --check
	$(CARGO) build --workspace --bins
	@{ $(TEMPLATE); } & template=$$!; status=0; \
	  $(CARGO) test --workspace --no-run --quiet || status=$$?; wait $$template || status=$$?; exit $$status
	$(WITH_TEMPLATE); \
	  mkdir -p target; status=0; $(CARGO) test --workspace --no-fail-fast 2>&1 | tee target/test.log || status=$$?; \
	  if test $$status != 0; then echo "=== what failed"; \
	    grep -E -A12 'panicked at|^error' target/test.log | grep -vE '^ +[0-9]+: |^ +at ' | tail -n 80; fi; exit $$status

bench-order: setup-build setup-live setup-bench ## Order to proven login beside the bare floor and virt-clone; needs root and quiet
	$(CARGO) build --release --workspace --bins
	target/release/nemordp-bench-order --dir $(TRY_DIR) --rounds $(BENCH_ROUNDS)

chaos: setup-build setup-live setup-test ## Kill anything, anywhere, for about CHAOS_SECONDS, real guests included; ends with one line, and with an error when anything was lost
	$(CARGO) build --workspace --bins
	@$(TEMPLATE)
	$(CARGO) test --workspace --no-run --test live --test saga
	@$(WITH_TEMPLATE); SECONDS=0; set -x; \
	  NEMORDP_LIVE=deaths $(CARGO) test --workspace --test live -- --nocapture; \
	  NEMORDP_SEED=$(CHAOS_SEED) NEMORDP_SEEDS=$$(( $(CHAOS_SECONDS) / 20 + 1 )) \
	    $(CARGO) test --workspace --test saga simulation -- --nocapture; \
	  left=$$(( $(CHAOS_SECONDS) - SECONDS )); least=$$(( $(CHAOS_SECONDS) / 3 )); \
	  target/debug/nemordp-chaos --seconds $$(( left > least ? left : least )) --seed $(CHAOS_SEED)

bench-control: setup-build setup-test ## Measure the control plane with simulated hosts; prints a table
	$(CARGO) build --release -p nemordp-control-plane -p nemordp-tests --bins
	$(CARGO) build --release -p nemordp-agent --bin nemordp-agent --no-default-features --features sim
	target/release/nemordp-bench-control

bench-placement: setup-build setup-test ## Every placement rule side by side, with TRACE=file.csv[.gz] the fewest nodes; the claim, and the oversell test in full
	@mkdir -p target; if test -n "$(TRACE)"; then \
	  case "$(TRACE)" in *.gz) gunzip -c "$(TRACE)" ;; *) cat "$(TRACE)" ;; esac > target/trace.csv; fi
	$(CARGO) bench -p nemordp-simulate --bench placement -- $(if $(TRACE),$(CURDIR)/target/trace.csv $(ONE_IN))
	$(CARGO) run --release -p nemordp-store --example claim

check: setup-build ## Formatting, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items

format: ## Format the code
	$(CARGO) fmt --all

bless: ## Write the golden files anew; look at the difference before you commit it
	BLESS=1 $(CARGO) test --workspace --no-fail-fast golden

deny: ## Licences, bans, sources of the dependencies (needs cargo-deny)
	$(CARGO) deny check licenses bans sources

template: setup-build setup-live ## Build the debian-12-xrdp template into .try/templates
	$(CARGO) build -p nemordp-installer
	target/debug/nemordp-installer template build debian-12-xrdp --out $(TRY_DIR)/templates --cache $(TRY_DIR)/cache

setup-build: ## Packages for building
	$(SETUP) build

setup-live: ## Packages for real guests
	$(SETUP) live

setup-test: ## Packages that only tests need
	$(SETUP) test

setup-bench: ## Packages that only benchmarks need
	$(SETUP) bench
