/* library.h: NCCL, loaded when it is asked for. Functions return a ncclResult_t. */
#ifndef BROADSIDE_NCCL_LIBRARY_H
#define BROADSIDE_NCCL_LIBRARY_H

#include <stddef.h>
#include <stdint.h>

enum { BS_NCCL_SUCCESS = 0, BS_NCCL_IN_PROGRESS = 7 };

typedef struct ncclComm bs_nccl_comm;
typedef struct bs_nccl_id { char bytes[128]; } bs_nccl_id;

/* Loads the library. Returns NULL, or why there is none to work with. Later calls return what the first did. */
const char *bs_nccl_load(void);
/* As in 22703 for 2.27.3. */
int bs_nccl_version(void);
const char *bs_nccl_error(int result);
/* More about the last error; "" if nothing. */
const char *bs_nccl_last_error(bs_nccl_comm *comm);

int bs_nccl_new_id(bs_nccl_id *id);
/* Begins to join, with the GPU of the thread's context. Ask bs_nccl_state for the end. */
int bs_nccl_join(bs_nccl_comm **comm, int size, const bs_nccl_id *id, int rank);
/* How what the communicator was asked last is going, or what failed since. */
int bs_nccl_state(bs_nccl_comm *comm);
int bs_nccl_finalize(bs_nccl_comm *comm);
int bs_nccl_destroy(bs_nccl_comm *comm);
int bs_nccl_abort(bs_nccl_comm *comm);
int bs_nccl_group_start(void);
int bs_nccl_group_end(void);

/* Collectives over floats, in place. */
int bs_nccl_all_reduce(bs_nccl_comm *comm, uintptr_t at, size_t n, void *stream);
int bs_nccl_reduce(bs_nccl_comm *comm, uintptr_t at, size_t n, int root, void *stream);
int bs_nccl_broadcast(bs_nccl_comm *comm, uintptr_t at, size_t n, int root, void *stream);
/* n is the length of a part; from and to are where the buffer or this rank's part of it begins. */
int bs_nccl_reduce_scatter(bs_nccl_comm *comm, uintptr_t from, uintptr_t to, size_t n, void *stream);
int bs_nccl_all_gather(bs_nccl_comm *comm, uintptr_t from, uintptr_t to, size_t n, void *stream);

#endif
