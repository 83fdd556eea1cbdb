//go:build cuda

/* library.c: the functions of libnccl.so.2 that this package calls, with the prototypes of nccl.h. */
#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { type_float = 7, op_sum = 0 }; /* ncclDataType_t, ncclRedOp_t */

/* ncclConfig_t as of version 2.14, the first with it. Later versions know by its size and version what it lacks. */
typedef struct config {
  size_t size;
  unsigned magic, version;
  int blocking;
} config;
static const config non_blocking = {sizeof(config), 0xcafebeef, 21400, 0};
enum { least_version = 21400 };

#define FUNCTIONS                                                                                           \
  F(GetVersion, (int *))                                                                                    \
  F(GetUniqueId, (bs_nccl_id *))                                                                            \
  F(CommInitRankConfig, (bs_nccl_comm **, int, bs_nccl_id, int, config *))                                  \
  F(CommGetAsyncError, (bs_nccl_comm *, int *))                                                             \
  F(CommFinalize, (bs_nccl_comm *))                                                                         \
  F(CommDestroy, (bs_nccl_comm *))                                                                          \
  F(CommAbort, (bs_nccl_comm *))                                                                            \
  F(GroupStart, (void))                                                                                     \
  F(GroupEnd, (void))                                                                                       \
  F(AllReduce, (const void *, void *, size_t, int, int, bs_nccl_comm *, void *))                            \
  F(Reduce, (const void *, void *, size_t, int, int, int, bs_nccl_comm *, void *))                          \
  F(ReduceScatter, (const void *, void *, size_t, int, int, bs_nccl_comm *, void *))                        \
  F(AllGather, (const void *, void *, size_t, int, bs_nccl_comm *, void *))                                 \
  F(Broadcast, (const void *, void *, size_t, int, int, bs_nccl_comm *, void *))

static struct {
#define F(name, parameters) int(*name) parameters;
  FUNCTIONS
#undef F
  const char *(*GetErrorString)(int);
  const char *(*GetLastError)(bs_nccl_comm *);
} nccl;

static char why[512];
static int version;

static void *find(void *library, const char *name) {
  void *function = dlsym(library, name);
  if (!function && !why[0]) snprintf(why, sizeof why, "NCCL has no function %s", name);
  return function;
}

static void load(void) {
  const char *name = getenv("BROADSIDE_LIBNCCL");
  if (!name || !*name) name = "libnccl.so.2";
  void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(why, sizeof why, "no NCCL: %s", dlerror());
    return;
  }
  *(void **)&nccl.GetVersion = find(library, "ncclGetVersion");
  if (!nccl.GetVersion) return;
  nccl.GetVersion(&version);
  if (version < least_version) {
    snprintf(why, sizeof why, "NCCL is of version %d; 2.14 is the first that will do", version);
    return;
  }
#define F(name, parameters) *(void **)&nccl.name = find(library, "nccl" #name);
  FUNCTIONS
#undef F
  *(void **)&nccl.GetErrorString = find(library, "ncclGetErrorString");
  *(void **)&nccl.GetLastError = find(library, "ncclGetLastError");
}

const char *bs_nccl_load(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, load);
  return why[0] ? why : NULL;
}

int bs_nccl_version(void) { return version; }
const char *bs_nccl_error(int result) { return nccl.GetErrorString(result); }
const char *bs_nccl_last_error(bs_nccl_comm *comm) {
  const char *text = nccl.GetLastError(comm);
  return text ? text : "";
}

int bs_nccl_new_id(bs_nccl_id *id) { return nccl.GetUniqueId(id); }
int bs_nccl_join(bs_nccl_comm **comm, int size, const bs_nccl_id *id, int rank) {
  config c = non_blocking;
  return nccl.CommInitRankConfig(comm, size, *id, rank, &c);
}
int bs_nccl_state(bs_nccl_comm *comm) {
  int state = BS_NCCL_SUCCESS, result = nccl.CommGetAsyncError(comm, &state);
  return result == BS_NCCL_SUCCESS ? state : result;
}
int bs_nccl_finalize(bs_nccl_comm *comm) { return nccl.CommFinalize(comm); }
int bs_nccl_destroy(bs_nccl_comm *comm) { return nccl.CommDestroy(comm); }
int bs_nccl_abort(bs_nccl_comm *comm) { return nccl.CommAbort(comm); }
int bs_nccl_group_start(void) { return nccl.GroupStart(); }
int bs_nccl_group_end(void) { return nccl.GroupEnd(); }

int bs_nccl_all_reduce(bs_nccl_comm *comm, uintptr_t at, size_t n, void *stream) {
  return nccl.AllReduce((void *)at, (void *)at, n, type_float, op_sum, comm, stream);
}
int bs_nccl_reduce(bs_nccl_comm *comm, uintptr_t at, size_t n, int root, void *stream) {
  return nccl.Reduce((void *)at, (void *)at, n, type_float, op_sum, root, comm, stream);
}
int bs_nccl_broadcast(bs_nccl_comm *comm, uintptr_t at, size_t n, int root, void *stream) {
  return nccl.Broadcast((void *)at, (void *)at, n, type_float, root, comm, stream);
}
int bs_nccl_reduce_scatter(bs_nccl_comm *comm, uintptr_t from, uintptr_t to, size_t n, void *stream) {
  return nccl.ReduceScatter((void *)from, (void *)to, n, type_float, op_sum, comm, stream);
}
int bs_nccl_all_gather(bs_nccl_comm *comm, uintptr_t from, uintptr_t to, size_t n, void *stream) {
  return nccl.AllGather((void *)from, (void *)to, n, type_float, comm, stream);
}
