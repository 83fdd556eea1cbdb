# cuda.mk: the CUDA build. The Makefile includes it.
#
# nvcc is the one of CUDA_HOME where that is set, else the one on PATH, in /usr/local/cuda, or in the toolkit that
# `make cuda-deps` leaves in build/cuda-toolkit.

CUDA         := build/cuda
CUDA_TOOLKIT := $(CURDIR)/build/cuda-toolkit
ifneq ($(CUDA_HOME),)
NVCC ?= $(CUDA_HOME)/bin/nvcc
endif
NVCC         ?= $(firstword $(shell command -v nvcc) $(wildcard /usr/local/cuda/bin/nvcc $(CUDA_TOOLKIT)/bin/nvcc))
# The toolkit's folder, found through links; Debian's package has no such folder and keeps all where compilers look.
CUDA_ROOT    := $(patsubst %/bin/nvcc,%,$(realpath $(NVCC)))
CUDA_INCLUDE := $(firstword $(wildcard $(CUDA_ROOT)/include $(CUDA_ROOT)/targets/*/include))
CUDA_LIB     := $(firstword $(dir $(wildcard $(addsuffix /libcudart_static.a,$(addprefix $(CUDA_ROOT)/,lib64 lib targets/*/lib lib/*-linux-gnu)))))

# Machine code for each architecture that this nvcc knows, and PTX of the newest for later ones. Compute capability
# 9.0 is that of one family of chips, all of which run sm_90a.
CUDA_KNOWN   := $(if $(NVCC),$(patsubst sm_%,%,$(shell $(NVCC) --help 2>/dev/null | grep -o 'sm_[0-9]*a\{0,1\}' | sort -u)))
CUDA_NEWEST  := $(lastword $(foreach a,80 90 100,$(filter $a,$(CUDA_KNOWN))))
CUDA_ARCHS   ?= 80 $(if $(filter 90a,$(CUDA_KNOWN)),90a,90) $(filter 100,$(CUDA_KNOWN))
CUDA_PTX     ?= $(CUDA_NEWEST)
NVCC_FLAGS   := -O3 -std=c++17 --extended-lambda -Xptxas -v -Xcompiler -fPIC,-Wall -Ikernels -Ikernels/cuda -Ikernels/cuda/ptx
NVCC_FLAGS   += $(if $(filter 90a,$(CUDA_ARCHS)),-DBROADSIDE_SM90A)
NVCC_CODE    := $(foreach a,$(CUDA_ARCHS),-gencode arch=compute_$(a),code=sm_$(a)) $(foreach a,$(CUDA_PTX),-gencode arch=compute_$(a),code=compute_$(a))
CUDA_OBJECTS := $(patsubst kernels/cuda/%.cu,$(CUDA)/%.o,$(CUDA_SOURCES))

# gorgonia.org/cu finds cuda.h and the linker its libraries through variables that Go's build cache does not look at,
# so that the kernels for CPUs need not be compiled again for this build. But cu looks into these folders first, and
# where they hold a cuda.h only flags go before them.
CUDA_INCLUDES := $(CURDIR)/cgo/cuda/compat:$(CUDA_INCLUDE)
CUDA_FOREIGN  := $(wildcard /usr/local/cuda/include/cuda.h /usr/local/cuda-11.0/targets/x86_64-linux/include/cuda.h \
	/usr/local/cuda-10.2/include/cuda.h /opt/cuda/include/cuda.h)
GO_CUDA_ENV   := CPATH=$(CUDA_INCLUDES) LIBRARY_PATH=$(CURDIR)/$(CUDA):$(CUDA_LIB) \
	$(if $(CUDA_FOREIGN),CGO_CPPFLAGS='-I$(CURDIR)/cgo/cuda/compat -I$(CUDA_INCLUDE)')
# Go does not see when the kernels' library changes, but for its digest. The driver is loaded by the program itself.
GO_CUDA_FLAGS  = -tags cuda -ldflags '$(GO_STRIP) -X broadside/cgo/cuda.library=$(shell cksum < $(CUDA)/libbroadside_cuda.a | tr " " -) \
	"-extldflags=-Wl,--as-needed -static-libstdc++ -static-libgcc"'

.PHONY: cuda cuda-deps cuda-nvcc cuda-kernels cuda-spills test-cuda gpu-check gpu-check-archive

cuda: cuda-kernels ## the command-line tool with CUDA kernels, bin/broadside-cuda
	$(GO_CUDA_ENV) go build $(GO_CUDA_FLAGS) -o bin/broadside-cuda ./cmd/broadside

cuda-kernels: $(CUDA)/libbroadside_cuda.a $(CUDA)/libcuda.a ## the CUDA kernels, compiled by nvcc for every architecture

cuda-deps: ## nvcc and what it needs, in build/cuda-toolkit, from Python packages; no root, no GPU needed
	kernels/cuda/toolkit.sh $(CUDA_TOOLKIT)

cuda-nvcc: ## which nvcc the CUDA build takes
	@test -n '$(NVCC)' && echo '$(NVCC)' || { echo 'no nvcc: install CUDA, name it in CUDA_HOME, or run `make cuda-deps`' >&2; exit 1; }

cuda-spills: cuda-kernels ## registers that the CUDA kernels spill, for each kernel and architecture
	@kernels/cuda/spills.sh $(CUDA_OBJECTS:.o=.log)

$(CUDA)/nvcc: $(NVCC) | cuda-nvcc
	@test -n '$(CUDA_LIB)' || { echo 'no libcudart_static.a near $(NVCC)' >&2; exit 1; }
	@mkdir -p $(CUDA)
	@echo '$(NVCC):$(patsubst %, sm_%,$(CUDA_ARCHS))$(patsubst %,$(comma) PTX of compute_%,$(CUDA_PTX))' | tee $@

$(CUDA)/%.o: kernels/cuda/%.cu $(CUDA_HEADERS) $(wildcard kernels/cuda/ptx/*) | $(CUDA)/nvcc
	$(NVCC) $(NVCC_FLAGS) $(NVCC_CODE) -c -o $@ $< 2> $(CUDA)/$*.log || { cat $(CUDA)/$*.log >&2; exit 1; }

$(CUDA)/libbroadside_cuda.a: $(CUDA_OBJECTS)
	rm -f $@
	ar rcs $@ $^

# What gorgonia.org/cu's -lcuda finds: nothing. cgo/cuda/driver.c has the functions.
$(CUDA)/libcuda.a: | $(CUDA)/nvcc
	ar rcs $@

EMULATED_GPU = BROADSIDE_LIBCUDA=$(CURDIR)/$(EMU)/libbroadside_emu.so BROADSIDE_LIBNCCL=$(CURDIR)/$(EMU)/libnccl.so.2 BROADSIDE_EMU_GPUS=8 \
	BROADSIDE_TEST_DEVICE=cuda

# The Go side of CUDA on the emulated driver: the device's own tests, every kernel through it, the benchmark of layers,
# and training: on one stream and on four, on two GPUs, run again, resumed, and beside a CPU.
test-cuda: emu cuda-kernels ## the CUDA build's tests, on an emulated GPU
	$(EMULATED_GPU) $(GO_CUDA_ENV) go test -short -timeout 30m $(GO_CUDA_FLAGS) ./cgo/cuda ./cgo/device ./engine/collective/...
	$(EMULATED_GPU) $(GO_CUDA_ENV) go test -short -timeout 30m -run 'OnGPU' $(GO_CUDA_FLAGS) ./cmd/broadside
	$(EMULATED_GPU) $(GO_CUDA_ENV) go test -short -timeout 30m \
		-run 'OnGPU|TestDeviceCountDoesNotChangeBits|TestMemoriesDoNotChangeBits|TestRerunIsBitEqual|TestResumeIsBitEqual' $(GO_CUDA_FLAGS) ./engine

# The check of one GPU: kernels for it alone, in a folder of their own, since it may have to travel to where little fits.
GPU_CHECK       := build/gpu-check
GPU_CHECK_MIB   := 64
GPU_CHECK_ARCHS := $(if $(filter file default undefined,$(origin CUDA_ARCHS)),90a,$(CUDA_ARCHS))

gpu-check: ## build/gpu-check.tar.xz: all checks and benchmarks, for a host with a GPU (CUDA_ARCHS, 90a); Go is not needed there
	$(MAKE) CUDA=build/cuda-$(subst $(space),-,$(GPU_CHECK_ARCHS)) CUDA_ARCHS='$(GPU_CHECK_ARCHS)' CUDA_PTX= gpu-check-archive

# The binaries share most of their bytes, which one large dictionary finds.
gpu-check-archive: GO_STRIP := -s -w
gpu-check-archive: cuda-kernels
	rm -rf $(GPU_CHECK)
	mkdir -p $(GPU_CHECK)/bin $(GPU_CHECK)/cgo/cuda $(GPU_CHECK)/engine/collective/nccl $(GPU_CHECK)/engine/graph $(GPU_CHECK)/bench $(GPU_CHECK)/testdata
	for p in cgo/cuda engine/collective/nccl engine/graph engine; do \
		$(GO_CUDA_ENV) go test -c $(GO_CUDA_FLAGS) -o $(GPU_CHECK)/$$p/$$(basename $$p).test ./$$p || exit 1; done
	$(GO_CUDA_ENV) go build $(GO_CUDA_FLAGS) -o $(GPU_CHECK)/bin/broadside-cuda ./cmd/broadside
	cp -r testdata/golden $(GPU_CHECK)/testdata/
	cp bench/peer.py bench/pytorch_step.py bench/pytorch_hvp.py $(GPU_CHECK)/bench/
	cp kernels/cuda/check/run.sh kernels/cuda/check/plan.sh $(GPU_CHECK)/
	git describe --always --dirty > $(GPU_CHECK)/revision
	tar -C build -cf - gpu-check | xz -T1 --lzma2=preset=3,dict=256MiB > $(GPU_CHECK).tar.xz
	@size=$$(stat -c %s $(GPU_CHECK).tar.xz); echo "$(GPU_CHECK).tar.xz: $$size bytes"; \
		test $$size -le $$(($(GPU_CHECK_MIB) << 20)) || { echo 'more than the $(GPU_CHECK_MIB) MiB that it may have' >&2; exit 1; }
