# Broadside: everything a user or CI machine does goes through these targets.
# Needed: Go (go.mod names the version) and a C++17 compiler. `broadside doctor` checks the rest.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
BIN         := bin/broadside
comma       := ,
space       := $(subst ,, )
# ./... passes over folders named testdata.
PACKAGES    := ./... ./testdata ./testdata/make_fashion_mnist_small

.PHONY: help build demo test test-isa test-long test-sanitize race soak fuzz bench lint sbom vuln clean

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

build: ## the command-line tool, in bin/broadside
	go build -o $(BIN) ./cmd/broadside

demo: build ## train with ABSA on the bundled data, about a minute; leaves runs/quickstart/report.html
	rm -rf runs/quickstart
	$(BIN) train quickstart --run runs/quickstart

test: ## the fast tests
	go vet $(PACKAGES)
	go test -timeout 40m $(PACKAGES)

test-long: ## training runs to a known accuracy, every kernel shape, the race detector
	BROADSIDE_LONG=1 go test -timeout 80m $(PACKAGES)
	$(MAKE) race

# What does not read BROADSIDE_ISA is in Go's cache after the first. TestBits runs once more by the paths that Go's
# mathematical functions and the C library's take on a processor without fused multiply-add.
test-isa: build ## the fast tests by every instruction set that this processor has, one after another
	@failed=; for isa in $$($(BIN) doctor | sed -n 's/^CPU kernels .* of \([a-z0-9, ]*[a-z0-9]\).*/\1/p' | tr -d ,); do \
		echo "== $$isa"; BROADSIDE_ISA=$$isa go test -short -timeout 30m $(PACKAGES) || failed="$$failed $$isa"; done; \
		test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }
	GODEBUG=cpu.fma=off GLIBC_TUNABLES=glibc.cpu.hwcaps=-FMA,-AVX2 go test -run '^TestBits$$' ./engine

race: ## the concurrent packages under the race detector
	go test -race -short -timeout 80m ./engine/... ./cgo/...

fuzz: ## a minute of fuzzing for each parser
	@for target in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for name in $$(grep -ohE '^func Fuzz[A-Za-z0-9]+' $$target/*_test.go | cut -c6-); do \
			echo "$$target $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime 60s -fuzzminimizetime 20x $$target || exit 1; \
		done; \
	done

bench: build ## updates, kernels and Hessian-vector products against this machine's limits; bench/compare.py adds PyTorch
	$(BIN) bench step --model resnet20 --batch 256 --attack
	$(BIN) bench kernels --shapes resnet18-cifar
	$(BIN) bench hvp --model resnet20 --samples 128

lint: ## formatting and static analysis
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'run gofmt -w on these files'; exit 1; }
	go vet $(PACKAGES)
	go run $(STATICCHECK) $(PACKAGES)

# The kernels are compiled anew for each sanitizer: several minutes. What a sanitizer finds ends the test; of a race
# without halt_on_error `go test` would hear nothing.
UNDEFINED := -fsanitize=undefined -fno-sanitize-recover=undefined
THREADS   := -fsanitize=thread
RACES     := halt_on_error=1 allocator_may_return_null=1

test-sanitize: ## the C++ kernels and the cgo layer under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer
	CGO_CFLAGS="-O2 -g $(UNDEFINED)" CGO_CXXFLAGS="-g $(UNDEFINED)" CGO_LDFLAGS="$(UNDEFINED)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
		go test -asan -count=1 -timeout 60m ./cgo/... ./kernels ./kernels/cpu/...
	TSAN_OPTIONS="$(RACES)" CGO_CFLAGS="-O2 -g $(THREADS)" CGO_CXXFLAGS="-g $(THREADS)" CGO_LDFLAGS="$(THREADS)" \
		go test -count=1 -timeout 60m ./cgo/... ./kernels ./kernels/cpu/...
	@mkdir -p build
	$(CXX) -std=c++17 -O1 -g $(THREADS) -Ikernels -o build/team kernels/cpu/testdata/team.cpp kernels/cpu/team.cpp kernels/cpu/run.cpp -lpthread
	TSAN_OPTIONS="$(RACES)" build/team
	! TSAN_OPTIONS="$(RACES)" build/team weak >build/team.log 2>&1 && grep -q 'data race' build/team.log

soak: ## an hour of training in one process: memory, goroutines and open files must not grow; build/soak.csv has the curve
	@mkdir -p build
	BROADSIDE_SOAK=$${BROADSIDE_SOAK:-1h} BROADSIDE_SOAK_CSV=$(CURDIR)/build/soak.csv go test -count=1 -v -timeout 5h -run '^TestSoak$$' ./engine

sbom: build ## the modules in the program with versions and checksums (CycloneDX), in build/sbom.json
	@mkdir -p build
	go run ./deploy/sbom $(BIN) > build/sbom.json

VULNDB := https://vuln.go.dev

vuln: ## known vulnerabilities in the modules and in what is called of them; needs a network, or VULNDB=file:///COPY
	go run $(GOVULNCHECK) -db $(VULNDB) ./...

clean:
	rm -rf bin build

.PHONY: test-arm64 test-avx512-emulated

test-arm64: ## the kernels' NEON code under qemu-user; says what is missing
	kernels/emulate/arm64.sh

test-avx512-emulated: ## the kernels' AVX-512 code in the Bochs emulator; says what is missing
	kernels/emulate/avx512.sh

# ---- CUDA -----------------------------------------------------------------------------------

CUDA_SOURCES := $(wildcard kernels/cuda/*.cu)
CUDA_HEADERS := $(wildcard kernels/*.h kernels/cuda/*.h kernels/cuda/*.cuh)
EMU          := build/emu
EMU_SANITIZE := # of g++, as in address,undefined
EMU_FLAGS    := -std=c++17 -O2 -g -fPIC -fvisibility=hidden -Wall -Wextra -Wno-unknown-pragmas -Wno-psabi -Ikernels/emu/runtime -Ikernels -Ikernels/cuda
EMU_FLAGS    += $(if $(EMU_SANITIZE),-fsanitize=$(EMU_SANITIZE) -fno-sanitize-recover=undefined)
EMU_OBJECTS  := $(patsubst kernels/cuda/%.cu,$(EMU)/%.o,$(CUDA_SOURCES)) $(addprefix $(EMU)/runtime/,emu.o hopper.o table.o driver.o)
EMU_HEADERS  := $(CUDA_HEADERS) $(wildcard kernels/emu/runtime/*.h kernels/emu/runtime/*.cuh)

.PHONY: emu test-emu

emu: $(EMU)/libbroadside_emu.so $(EMU)/libnccl.so.2 $(EMU)/faults $(EMU)/plan ## the CUDA kernels as a library for CPUs, for tests

$(EMU)/libbroadside_emu.so: $(EMU_OBJECTS)
	$(CXX) $(EMU_FLAGS) -shared -o $@ $^

$(EMU)/libnccl.so.2: $(EMU)/nccl/nccl.o $(EMU)/libbroadside_emu.so
	$(CXX) $(EMU_FLAGS) -shared -Wl,-rpath,'$$ORIGIN' -o $@ $< -L$(EMU) -lbroadside_emu

$(EMU)/faults: $(EMU)/testdata/faults.o $(addprefix $(EMU)/runtime/,emu.o hopper.o driver.o)
	$(CXX) $(EMU_FLAGS) -o $@ $^

$(EMU)/%.o: kernels/cuda/%.cu $(EMU_HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(EMU_FLAGS) -x c++ -c -o $@ $<

$(EMU)/%.o: kernels/emu/%.cu $(EMU_HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(EMU_FLAGS) -x c++ -c -o $@ $<

$(EMU)/%.o: kernels/emu/%.cpp $(EMU_HEADERS)
	@mkdir -p $(@D)
	$(CXX) $(EMU_FLAGS) -c -o $@ $<

$(EMU)/plan: $(EMU)/testdata/plan.o
	$(CXX) $(EMU_FLAGS) -o $@ $^

# A sanitizer that a library brings along must be in the process from its start.
test-emu: ## the emulated CUDA kernels under AddressSanitizer and UndefinedBehaviorSanitizer
	BROADSIDE_EMU_SANITIZE=address,undefined go test -count=1 -timeout 60m ./kernels/emu \
		-exec "env LD_PRELOAD=$$($(CXX) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:handle_segv=0"

include kernels/cuda/cuda.mk
include engine/collective/mpi/mpi.mk
