/* queue.h: what the table of CUDA kernels looks like from outside. */
#ifndef BROADSIDE_CUDA_QUEUE_H
#define BROADSIDE_CUDA_QUEUE_H

#include "broadside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What `stream` points to in this table. A kernel is queued and returns; what it finds wrong on the device (an
 * index that points outside) it leaves in *fault, where the host finds it once the stream is idle. */
typedef struct bs_cuda_queue {
  int32_t device;        /* ordinal, made current by run */
  int32_t error;         /* the cudaError_t of a launch that failed; launches set it */
  struct CUstream_st *stream;
  int32_t *fault;        /* a bs_status in memory that the device can write; never NULL */
} bs_cuda_queue;

extern const bs_kernels bs_cuda_table;

#ifdef __cplusplus
}
#endif
#endif
