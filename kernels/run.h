/* run.h: how every table runs a list of calls. */
#ifndef BROADSIDE_RUN_H
#define BROADSIDE_RUN_H

#include <stddef.h>

#include "broadside.h"

/* Writes a call's pointers to arg; all that the call does not name are NULL. */
static inline bs_status bs_resolve(const bs_call *call, void *const *base, void **arg) {
  if (call->args < 0 || call->args > BS_MAX_ARGS) return BS_BAD_ARGUMENT;
  for (int i = 0; i < BS_MAX_ARGS; i++) arg[i] = NULL;
  for (int i = 0; i < call->args; i++) {
    const bs_ref *ref = &call->arg[i];
    if (ref->base < 0) continue;
    if (ref->base >= BS_MAX_BASES || !base[ref->base]) return BS_BAD_ARGUMENT;
    int64_t unit = call->kernel == BS_AUGMENT && i == 0 ? 1 : 4; /* image memory counts bytes */
    arg[i] = (char *)base[ref->base] + ref->offset * unit;
  }
  return BS_OK;
}

/* Runs a call. */
static inline bs_status bs_run_call(const bs_kernels *table, const bs_call *call, void *const *base, void *stream) {
  void *arg[BS_MAX_ARGS];
  if (call->kernel < 0 || call->kernel >= BS_KERNEL_COUNT) return BS_UNSUPPORTED;
  bs_status status = bs_resolve(call, base, arg);
  return status == BS_OK ? table->kernel[call->kernel](&call->shape, arg, stream) : status;
}

/* Runs the calls in order until one fails; *failed is its index. */
static inline bs_status bs_run_calls(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base,
                                     void *stream, int32_t *failed) {
  for (*failed = 0; *failed < n; ++*failed) {
    bs_status status = bs_run_call(table, call + *failed, base, stream);
    if (status != BS_OK) return status;
  }
  return BS_OK;
}

#endif
