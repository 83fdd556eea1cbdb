/* queue.h: what the table of CUDA kernels looks like from outside. */
#ifndef BROADSIDE_CUDA_QUEUE_H
#define BROADSIDE_CUDA_QUEUE_H

#include "broadside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cuTensorMapEncodeTiled of the driver, from CUDA 12 on: fills a tensor map of 128 bytes. Returns a CUresult. */
typedef int (*bs_encode_tiled)(void *map, int type, uint32_t rank, void *address, const uint64_t *sizes, const uint64_t *strides,
                               const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int l2_promotion, int fill);

/* What `stream` points to in this table. A kernel is queued and returns; what it finds wrong on the device (an
 * index that points outside) it leaves in *fault, where the host finds it once the stream is idle. */
typedef struct bs_cuda_queue {
  int32_t device;        /* ordinal, made current by run */
  int32_t error;         /* the cudaError_t of a launch that failed; launches set it */
  struct CUstream_st *stream;
  int32_t *fault;        /* a bs_status in memory that the device can write; never NULL */
  int32_t capability;    /* compute capability, 90 for 9.0; 0 if unknown */
  int32_t processors;    /* multiprocessors; used where capability is 90 */
  bs_encode_tiled encode_tiled; /* of the driver; NULL: nothing that needs it is used */
} bs_cuda_queue;

extern const bs_kernels bs_cuda_table;

#ifdef __cplusplus
}
#endif
#endif
