// table.cpp: the table of the emulated kernels.
#include "queue.h"
#include "run.h"

#define API extern "C" __attribute__((visibility("default")))

extern "C" int cuTensorMapEncodeTiled(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *,
                                      const uint32_t *, int, int, int, int);

// The CUDA table as one that answers when it is done, as a CPU's does. With compute capability 9.0 a GPU has few
// multiprocessors, so that their blocks have several tiles to do.
template <int capability> static bs_status run(const bs_kernels *, const bs_call *call, int32_t n, void *const *base, void *, int32_t *failed) {
  for (int32_t i = 0; i < n; i++) {
    int32_t fault = BS_OK;
    bs_cuda_queue queue = {};
    queue.fault = &fault;
    queue.capability = capability;
    queue.processors = 3;
    if (capability == 90) queue.encode_tiled = cuTensorMapEncodeTiled;
    bs_status status = bs_run_calls(&bs_cuda_table, call + i, 1, base, &queue, failed);
    if (status == BS_OK) status = (bs_status)fault;
    if (status != BS_OK) {
      *failed = i;
      return status;
    }
  }
  return BS_OK;
}

template <int capability> static const bs_kernels *table() {
  static const bs_kernels made = [] {
    bs_kernels t = bs_cuda_table;
    t.name = "emulated cuda";
    t.run = run<capability>;
    return t;
  }();
  return &made;
}

// The table of an emulated GPU of compute capability 8.0 or 9.0, as 80 or 90.
API const bs_kernels *bs_emu_table(int capability) { return capability == 90 ? table<90>() : capability == 80 ? table<80>() : nullptr; }

// The table whose kernels are queued, for the emulated driver's streams (driver.cpp).
API const bs_kernels *bs_emulated_cuda_table() { return &bs_cuda_table; }
