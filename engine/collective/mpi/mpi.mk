# mpi.mk: the build with Open MPI. The Makefile includes it.
#
# The compiler finds MPI's headers through variables that Go's build cache does not look at, so that the kernels need
# not be compiled again for this build.

MPICC       := mpicc
MPI_INCLUDE  = $(subst $() ,:,$(shell $(MPICC) --showme:incdirs 2>/dev/null))
MPI_LIB      = $(subst $() ,:,$(shell $(MPICC) --showme:libdirs 2>/dev/null))
GO_MPI_ENV   = CPATH=$(MPI_INCLUDE) LIBRARY_PATH=$(MPI_LIB)

GO_MPI_CUDA_ENV   = CPATH=$(CUDA_INCLUDES):$(MPI_INCLUDE) LIBRARY_PATH=$(CURDIR)/$(CUDA):$(CUDA_LIB):$(MPI_LIB) \
	$(if $(CUDA_FOREIGN),CGO_CPPFLAGS='-I$(CURDIR)/cgo/cuda/compat -I$(CUDA_INCLUDE)')
GO_MPI_CUDA_FLAGS = $(patsubst cuda,cuda$(comma)mpi,$(GO_CUDA_FLAGS))

.PHONY: mpi mpi-cuda mpi-deps mpi-found test-mpi test-mpi-cuda

mpi: mpi-found ## the command-line tool with MPI, for CPUs, bin/broadside-mpi
	$(GO_MPI_ENV) go build -tags mpi -o bin/broadside-mpi ./cmd/broadside

mpi-cuda: mpi-found cuda-kernels ## the command-line tool with MPI and CUDA kernels, bin/broadside-mpi
	$(GO_MPI_CUDA_ENV) go build $(GO_MPI_CUDA_FLAGS) -o bin/broadside-mpi ./cmd/broadside

mpi-deps: ## Open MPI, from Debian's packages; needs root
	apt-get install -y --no-install-recommends libopenmpi-dev openmpi-bin

mpi-found:
	@command -v $(MPICC) > /dev/null || { echo 'no $(MPICC): install Open MPI, or run `make mpi-deps`' >&2; exit 1; }

test-mpi: mpi-found ## collectives over processes, with ranks that are late, leave or are killed
	$(GO_MPI_ENV) go vet -tags mpi ./engine/collective/mpi ./cmd/broadside
	$(GO_MPI_ENV) go test -tags mpi -count=1 ./engine/collective/mpi
	$(GO_MPI_ENV) go test -tags mpi -count=1 -run Process ./cmd/broadside

test-mpi-cuda: mpi-found emu cuda-kernels ## the same over processes with a GPU each, emulated
	BROADSIDE_LIBCUDA=$(CURDIR)/$(EMU)/libbroadside_emu.so $(GO_MPI_CUDA_ENV) \
		go test -count=1 -run TestCollectives $(GO_MPI_CUDA_FLAGS) ./engine/collective/mpi
