// run.cpp: runs lists of calls, alone or in a team.
#include "run.h"
#include "table.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

// Go mirrors these layouts.
static_assert(sizeof(bs_ref) == 16, "bs_ref");
static_assert(sizeof(bs_call) == 8 + 16 * BS_MAX_ARGS + sizeof(bs_shape), "bs_call");

namespace {

// DenormalsAreZero makes numbers below 2^-126 zero while it lives. They mean nothing in training, and
// arithmetic on them is a hundred times slower.
class DenormalsAreZero {
#if defined(__x86_64__)
  unsigned saved_ = _mm_getcsr();

public:
  DenormalsAreZero() { _mm_setcsr(saved_ | 0x8040); } // flush to zero, denormals are zero
  ~DenormalsAreZero() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  uint64_t saved_;

public:
  DenormalsAreZero() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | 1u << 24));
  }
  ~DenormalsAreZero() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
public:
  DenormalsAreZero() {}
  ~DenormalsAreZero() {}
#endif
};

// shares reports whether a kernel divides its work among the members of a team. The first member runs the
// others alone.
bool shares(int32_t kernel) {
  switch (kernel) {
  case BS_CONV2D_FORWARD:
  case BS_CONV2D_BACKWARD_INPUT:
  case BS_CONV2D_BACKWARD_WEIGHT:
  case BS_BATCHNORM_FORWARD:
  case BS_BATCHNORM_BACKWARD:
  case BS_BATCHNORM_TANGENT_FORWARD:
  case BS_BATCHNORM_TANGENT_BACKWARD:
  case BS_RELU_FORWARD:
  case BS_RELU_BACKWARD:
  case BS_AXPBY:
  case BS_ADD:
  case BS_MULADD:
    return true;
  }
  return false;
}

// run_shared does a member's share of call i, and notes its failure. All members that run a call fail alike and
// before they meet within it, for a kernel checks its shape and arguments first.
void run_shared(bs_cpu_pass *pass, int32_t i, const bs_cpu_member *member) {
  if (member->index > 0 && !shares(pass->call[i].kernel)) return;
  void *stream = member->count > 1 ? (void *)member : nullptr;
  bs_status status = bs_run_call(pass->table, &pass->call[i], pass->base, stream);
  if (status == BS_OK) return;
  __atomic_store_n(&pass->status, status, __ATOMIC_RELAXED);
  __atomic_store_n(&pass->failed, i, __ATOMIC_RELAXED);
}

} // namespace

void bs_cpu_walk(bs_cpu_pass *pass, const bs_cpu_member *member) {
  DenormalsAreZero mode;
  bool team = member->count > 1;
  // A member may be one call ahead of another: only a failure of this call or an earlier one ends the walk.
  for (int32_t i = 0; i < pass->n && __atomic_load_n(&pass->failed, __ATOMIC_RELAXED) >= i; i++) {
    run_shared(pass, i, member);
    if (team) bs_cpu_meet(member);
  }
  if (team) bs_cpu_meet(member); // nobody reads the pass any more
}

extern "C" bs_status bs_cpu_run(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base,
                                void *stream, int32_t *failed) {
  static const bs_cpu_member alone = {0, 1, nullptr, nullptr};
  bs_cpu_pass pass = {table, call, n, base, n, BS_OK};
  if (stream) bs_cpu_team_run((bs_cpu_team *)stream, &pass);
  else bs_cpu_walk(&pass, &alone);
  if (pass.failed < n) *failed = pass.failed;
  return pass.status;
}
