# mpi.mk: the build with Open MPI. The Makefile includes it.
#
# The compiler finds MPI's headers through variables that Go's build cache does not look at, so that the kernels need
# not be compiled again for this build.

MPICC       := mpicc
MPI_INCLUDE  = $(subst $() ,:,$(shell $(MPICC) --showme:incdirs 2>/dev/null))
MPI_LIB      = $(subst $() ,:,$(shell $(MPICC) --showme:libdirs 2>/dev/null))
GO_MPI_ENV   = CPATH=$(MPI_INCLUDE) LIBRARY_PATH=$(MPI_LIB)

.PHONY: mpi mpi-cuda mpi-deps mpi-found test-mpi

mpi: mpi-found ## the command-line tool with MPI, for CPUs, bin/broadside-mpi
	$(GO_MPI_ENV) go build -tags mpi -o bin/broadside-mpi ./cmd/broadside

mpi-cuda: mpi-found cuda-kernels ## the command-line tool with MPI and CUDA kernels, bin/broadside-mpi
	CPATH=$(CUDA_INCLUDES):$(MPI_INCLUDE) LIBRARY_PATH=$(CURDIR)/$(CUDA):$(CUDA_LIB):$(MPI_LIB) \
		go build $(subst -tags cuda,-tags cuda$(shell printf ,)mpi,$(GO_CUDA_FLAGS)) -o bin/broadside-mpi ./cmd/broadside

mpi-deps: ## Open MPI, from Debian's packages; needs root
	apt-get install -y --no-install-recommends libopenmpi-dev openmpi-bin

mpi-found:
	@command -v $(MPICC) > /dev/null || { echo 'no $(MPICC): install Open MPI, or run `make mpi-deps`' >&2; exit 1; }

test-mpi: mpi-found ## collectives over processes, with ranks that are late, leave or are killed
	$(GO_MPI_ENV) go vet -tags mpi ./engine/collective/mpi ./cmd/broadside
	$(GO_MPI_ENV) go test -tags mpi -count=1 ./engine/collective/mpi
	$(GO_MPI_ENV) go test -tags mpi -count=1 -run Process ./cmd/broadside
