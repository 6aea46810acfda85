# The commands of Hippodrome. Each sets up what it needs first (third_party/install, then CMake), which takes about a second
# when nothing has changed. `make help` lists them.

# One compiler for each core, but no more than memory holds: files that include LibTorch take up to 2 GB each. JOBS=n overrules.
available_gb := $(shell awk '/MemAvailable/ {print int($$2 / 1048576)}' /proc/meminfo 2>/dev/null)
cores := $(shell nproc 2>/dev/null || echo 2)
JOBS ?= $(shell jobs=$$(( $(or $(available_gb),4) / 2 )); [ $$jobs -gt $(cores) ] && jobs=$(cores); [ $$jobs -lt 1 ] && jobs=1; echo $$jobs)
RECIPE ?= experiments/recipes/quickstart.toml
# Further options for CMake, e.g. CONFIGURE="-DHIPPODROME_TORCH=/opt/libtorch"
CONFIGURE ?=

.DEFAULT_GOAL := help
.PHONY: help race test build bench check device-bundle slow asan tsan debug format tidy install clean
# Steps of one command depend on each other; ninja is what runs in parallel.
.NOTPARALLEL:

help: ## this list
	@echo "make race    set up, build, and race the quickstart's architectures (RECIPE=path for another recipe)"
	@echo "make test    set up, build, and run every unit test"
	@echo "make build   set up and build a release into build/release"
	@echo "make bench   kernel benchmarks (FILTER=regex for some of them)"
	@echo "make check   the laws of every layer (LAYER=name for one)"
	@echo "make device-bundle   a folder that runs on a GPU machine: build/device-bundle (needs nvcc)"
	@echo "make slow    tests that take minutes, among them those that need Python"
	@echo "make asan    unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make tsan    unit tests under ThreadSanitizer"
	@echo "make debug   a build without optimisation into build/debug"
	@echo "make format  clang-format on our own sources"
	@echo "make tidy    clang-tidy on our own sources"
	@echo "make install only the set-up: packages and the pinned .venv (third_party/install)"
	@echo "make clean   remove build/ (keeps .venv and runs/)"

install:
	@third_party/install

# CMake runs by hand only the first time and when CONFIGURE asks for something; later changes make ninja run it.
define configure_and_build
@[ -z "$(CONFIGURE)" -a -f build/$(1)/build.ninja ] || cmake --preset $(1) $(CONFIGURE)
@cmake --build build/$(1) --parallel $(JOBS) $(2)
endef

build: install
	$(call configure_and_build,release)

race: build
	@build/release/bin/hippodrome race $(RECIPE)

test: build
	@ctest --test-dir build/release -L unit --output-on-failure

slow: build
	@ctest --test-dir build/release -L slow --output-on-failure

check: build
	@build/release/bin/hippodrome check $(LAYER)

bench: build
	@build/release/bin/hippodrome_bench $(if $(FILTER),--benchmark_filter='$(FILTER)')

device-bundle: build
	@third_party/device_bundle build/release build/device-bundle

asan tsan: install
	$(call configure_and_build,$@)
	@ctest --test-dir build/$@ -L unit --output-on-failure

debug: install
	$(call configure_and_build,debug)

sources = git ls-files '*.h' '*.cpp' '*.cu' '*.cuh'
format:
	@command -v clang-format >/dev/null || { echo "make format needs clang-format (Debian package clang-format)"; exit 1; }
	@$(sources) | xargs -r clang-format -i

tidy: build
	@command -v clang-tidy >/dev/null || { echo "make tidy needs clang-tidy (Debian package clang-tidy)"; exit 1; }
	@git ls-files '*.cpp' | xargs -r -n 1 -P $(JOBS) clang-tidy --quiet -p build/release

clean:
	rm -rf build
