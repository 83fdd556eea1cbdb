// table.cpp: the table of the emulated kernels.
#include "queue.h"
#include "run.h"

#define API extern "C" __attribute__((visibility("default")))

// The CUDA table as one that answers when it is done, as a CPU's does.
static bs_status run(const bs_kernels *, const bs_call *call, int32_t n, void *const *base, void *, int32_t *failed) {
  for (int32_t i = 0; i < n; i++) {
    int32_t fault = BS_OK;
    bs_cuda_queue queue = {};
    queue.fault = &fault;
    bs_status status = bs_run_calls(&bs_cuda_table, call + i, 1, base, &queue, failed);
    if (status == BS_OK) status = (bs_status)fault;
    if (status != BS_OK) {
      *failed = i;
      return status;
    }
  }
  return BS_OK;
}

API const bs_kernels *bs_emu_table() {
  static const bs_kernels table = [] {
    bs_kernels t = bs_cuda_table;
    t.name = "emulated cuda";
    t.run = run;
    return t;
  }();
  return &table;
}

// The table whose kernels are queued, for the emulated driver's streams (driver.cpp).
API const bs_kernels *bs_emulated_cuda_table() { return &bs_cuda_table; }
