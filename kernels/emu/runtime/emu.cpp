// emu.cpp: runs a kernel's blocks, each thread of a block on a fiber of its own.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>
#include <mutex>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include <cuda_runtime.h>

#include "block.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emu {
namespace {

// ---- fibers ---------------------------------------------------------------------------------

constexpr size_t stack_bytes = 256 << 10;

#if defined(__x86_64__)
// A suspended fiber is its stack pointer; what a call must keep lies on its stack.
typedef void *Context;
extern "C" void emu_switch(Context *save, Context load);
asm(R"(
.text
.globl emu_switch
.hidden emu_switch
.type emu_switch, @function
emu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emu_switch, .-emu_switch
)");

void prepare(Context &c, char *stack, void (*entry)()) {
  void **top = (void **)(stack + stack_bytes - 64);
  *--top = nullptr; // as if entry had been called: its frame is 8 bytes off a multiple of 16
  *--top = (void *)entry;
  top -= 6; // the registers that emu_switch pops
  memset(top, 0, 6 * sizeof *top);
  c = top;
}

void exchange_contexts(Context &save, Context &load) { emu_switch(&save, load); }
#else
typedef ucontext_t Context;

void prepare(Context &c, char *stack, void (*entry)()) {
  getcontext(&c);
  c.uc_stack.ss_sp = stack;
  c.uc_stack.ss_size = stack_bytes;
  c.uc_link = nullptr;
  makecontext(&c, entry, 0);
}

void exchange_contexts(Context &save, Context &load) { swapcontext(&save, &load); }
#endif

// ---- a block --------------------------------------------------------------------------------

struct Copy { // an asynchronous one to shared memory
  void *to;
  const void *from; // NULL: zeros
  int bytes, group;
};

enum State { ready, waits_block, waits_warp, waits_event, done };

struct Thread {
  Context context;
  State state;
  uint3 index;
  int barrier; // it waits at
  const void *event;
  char *stack;
  void *sanitizer; // AddressSanitizer's record of its stack
  int turn;        // exchanges made, modulo 2
  int group;       // of asynchronous copies, the one to be committed next
  std::vector<Copy> copies;
};

struct Warp {
  unsigned arrived, mask; // lanes that wait, and the lanes they wait for
  alignas(64) char slot[2][warp_size * 64];
};

struct Barrier {
  int arrived;
};

struct Block {
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Barrier barriers[16];
  int count, running, alive; // threads of the block, the one that runs, those that have not ended
  Context scheduler;
  void *scheduler_sanitizer;
  const void *scheduler_stack;
  size_t scheduler_size;
  const std::function<void()> *body;
  char *shared;
  size_t shared_bytes;
};

Block block;
std::mutex one_at_a_time;
std::map<const void *, int> shared_limit; // of a kernel, where it was raised
unsigned turns = 1; // decides which end of a block runs first, and more

constexpr size_t shared_most = 227 << 10, shared_usual = 48 << 10, shared_guard = 1 << 10;

Thread &self() { return block.threads[block.running]; }

} // namespace

void hang(const char *what) {
  fprintf(stderr, "emu: %s: thread %d of block (%u, %u, %u), %d threads, %d ended\n", what, block.running, blockIdx.x,
          blockIdx.y, blockIdx.z, block.count, block.count - block.alive);
  for (int i = 0; i < block.count; i++)
    if (const char *what = block.threads[i].state == waits_block   ? "its block"
                           : block.threads[i].state == waits_warp  ? "its warp"
                           : block.threads[i].state == waits_event ? "a barrier in shared memory"
                                                                   : nullptr)
      fprintf(stderr, "emu:   thread %d waits for %s\n", i, what);
  abort();
}

namespace {

void leave(bool ended) {
  Thread &t = self();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(ended ? nullptr : &t.sanitizer, block.scheduler_stack, block.scheduler_size);
#else
  (void)ended;
#endif
  exchange_contexts(t.context, block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self().sanitizer, &block.scheduler_stack, &block.scheduler_size);
#endif
}

void enter(int i) {
  Thread &t = block.threads[i];
  block.running = i;
  threadIdx = t.index;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&block.scheduler_sanitizer, t.stack, stack_bytes);
#endif
  exchange_contexts(block.scheduler, t.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(block.scheduler_sanitizer, nullptr, nullptr);
#endif
}

// thread_main is where every fiber starts.
void thread_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_size);
#endif
  (*block.body)();
  self().state = done;
  block.alive--;
  leave(true);
  abort(); // never entered again
}

char *stack_of(int i) {
  static std::vector<char *> stacks;
  while ((int)stacks.size() <= i) {
    void *p = mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      fprintf(stderr, "emu: no memory for a stack\n");
      abort();
    }
    stacks.push_back((char *)p);
  }
  return stacks[i];
}

void release(State waiting, int barrier, int first, int last) {
  for (int i = first; i < last; i++) {
    Thread &t = block.threads[i];
    if (t.state == waiting && (waiting == waits_warp || t.barrier == barrier)) t.state = ready;
  }
}

// release_ended lets a barrier go that waits only for threads that have ended.
bool release_ended() {
  if (block.barriers[0].arrived == 0 || block.barriers[0].arrived < block.alive) return false;
  block.barriers[0].arrived = 0;
  release(waits_block, 0, 0, block.count);
  return true;
}

// open_shared fills the block's shared memory and what lies behind it with NaN.
void open_shared() {
#if defined(__SANITIZE_ADDRESS__)
  ASAN_UNPOISON_MEMORY_REGION(block.shared, block.shared_bytes);
#endif
  memset(block.shared, 0xff, block.shared_bytes);
#if defined(__SANITIZE_ADDRESS__)
  ASAN_POISON_MEMORY_REGION(block.shared + block.shared_bytes, shared_most + shared_guard - block.shared_bytes);
#else
  memset(block.shared + block.shared_bytes, 0xff, shared_guard);
#endif
}

// check_shared ends the process if the block wrote behind its shared memory, where a GPU would fault.
void check_shared() {
#if !defined(__SANITIZE_ADDRESS__)
  for (size_t i = 0; i < shared_guard; i++)
    if ((unsigned char)block.shared[block.shared_bytes + i] != 0xff) hang("the block wrote behind its shared memory");
#endif
}

void run_block() {
  turns ^= turns << 13, turns ^= turns >> 17, turns ^= turns << 5; // xorshift (Marsaglia 2003)
  bool backwards = turns >> 16 & 1;
  block.alive = block.count;
  memset(block.barriers, 0, sizeof block.barriers);
  for (Warp &w : block.warps) w.arrived = 0;
  open_shared();
  begin_hopper();
  for (int i = 0; i < block.count; i++) {
    Thread &t = block.threads[i];
    t.state = ready;
    t.turn = 0;
    t.group = 0;
    t.copies.clear();
    t.stack = stack_of(i);
    prepare(t.context, t.stack, thread_main);
  }
  while (block.alive > 0) {
    bool moved = false;
    for (int k = 0; k < block.count; k++) {
      int i = backwards ? block.count - 1 - k : k;
      if (block.threads[i].state != ready) continue;
      enter(i);
      moved = true;
    }
    if (!moved && !release_ended() && !advance_hopper()) hang("every thread waits");
  }
  end_hopper();
  check_shared();
}

bool bad_configuration(dim3 grid, dim3 threads, size_t shared, const void *kernel) {
  uint64_t size = (uint64_t)threads.x * threads.y * threads.z;
  auto limit = shared_limit.find(kernel);
  size_t most = limit == shared_limit.end() ? shared_usual : (size_t)limit->second;
  return size == 0 || size > 1024 || threads.z > 64 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
         grid.y > 65535 || grid.z > 65535 || shared > most;
}

} // namespace

static void run_grid(dim3 grid, dim3 threads, size_t shared, const std::function<void()> &body) {
  std::lock_guard<std::mutex> lock(one_at_a_time);
  static char *shared_memory = (char *)aligned_alloc(1024, shared_most + shared_guard);
  block.shared = shared_memory;
  block.shared_bytes = shared;
  block.body = &body;
  block.count = (int)(threads.x * threads.y * threads.z);
  block.threads.resize((size_t)block.count);
  block.warps.resize((size_t)(block.count + warp_size - 1) / warp_size);
  for (int i = 0; i < block.count; i++) {
    unsigned u = (unsigned)i;
    block.threads[i].index = {u % threads.x, u / threads.x % threads.y, u / threads.x / threads.y};
  }
  blockDim = threads;
  gridDim = grid;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        blockIdx = {x, y, z};
        run_block();
      }
}

int launch(const cudaLaunchConfig_t &c, const void *kernel, std::function<void()> thread) {
  {
    std::lock_guard<std::mutex> lock(one_at_a_time);
    if (bad_configuration(c.gridDim, c.blockDim, c.dynamicSmemBytes, kernel)) return cudaErrorInvalidConfiguration;
  }
  submit(c.stream, [=] { run_grid(c.gridDim, c.blockDim, c.dynamicSmemBytes, thread); });
  return cudaSuccess;
}

void *dynamic_shared() { return block.shared; }

int lane() { return block.running % warp_size; }

int thread() { return block.running; }
int threads() { return block.count; }
unsigned order() { return turns; }

void expect_shared(const void *p, size_t bytes) {
  const char *from = (const char *)p;
  if (from < block.shared || from + bytes > block.shared + block.shared_bytes) hang("an address is not in the block's shared memory");
}

void wait_event(const void *event) {
  self().state = waits_event;
  self().event = event;
  leave(false);
}

void wake(const void *event) {
  for (Thread &t : block.threads)
    if (t.state == waits_event && t.event == event) t.state = ready;
}

void sync_block(int barrier, int threads) {
  Barrier &b = block.barriers[barrier];
  if (++b.arrived >= (threads ? threads : block.alive)) {
    b.arrived = 0;
    release(waits_block, barrier, 0, block.count);
    return;
  }
  self().state = waits_block;
  self().barrier = barrier;
  leave(false);
}

void sync_warp(unsigned mask) {
  int number = block.running / warp_size, first = number * warp_size;
  int size = block.count - first < warp_size ? block.count - first : warp_size;
  if (size < warp_size) mask &= (1u << size) - 1;
  Warp &w = block.warps[number];
  unsigned me = 1u << lane();
  if (!(mask & me)) hang("a lane waits for lanes without itself");
  if (w.arrived && w.mask != mask) hang("lanes of a warp wait for different lanes");
  w.mask = mask;
  w.arrived |= me;
  if (w.arrived == mask) {
    w.arrived = 0;
    release(waits_warp, 0, first, first + size);
    return;
  }
  self().state = waits_warp;
  leave(false);
}

const void *exchange(unsigned mask, const void *value, size_t bytes) {
  Warp &w = block.warps[block.running / warp_size];
  // Two sets of slots in turn: a lane that is one exchange ahead does not overwrite what others still read.
  char *slots = w.slot[self().turn];
  self().turn ^= 1;
  memcpy(slots + bytes * (size_t)lane(), value, bytes);
  sync_warp(mask);
  return slots;
}

void expect_aligned(const void *p, size_t bytes) {
  if ((uintptr_t)p % bytes) hang("an address is not aligned");
}

void copy_later(void *shared, const void *from, int bytes) {
  expect_aligned(shared, (size_t)bytes);
  expect_aligned(from, (size_t)bytes);
  Thread &t = self();
  t.copies.push_back({shared, from, bytes, t.group});
}

void commit_copies() { self().group++; }

void wait_copies(int newest) {
  Thread &t = self();
  size_t done = 0;
  for (; done < t.copies.size() && t.copies[done].group < t.group - newest; done++) {
    const Copy &c = t.copies[done];
    if (c.from)
      memcpy(c.to, c.from, (size_t)c.bytes);
    else
      memset(c.to, 0, (size_t)c.bytes);
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + (std::ptrdiff_t)done);
}

} // namespace emu

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value) {
  if (value < 0 || (size_t)value > emu::shared_most) return cudaErrorInvalidValue;
  emu::shared_limit[kernel] = value;
  return cudaSuccess;
}
