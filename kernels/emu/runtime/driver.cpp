// driver.cpp: the part of the CUDA driver that broadside/cgo/cuda calls, on host memory and with the emulator's
// kernels, so that the very Go code that drives GPUs is tested without one: BROADSIDE_LIBCUDA names this library.
//
// It is as unkind as a driver may be. A stream does nothing until somebody waits for it, and then only what was
// waited for and what that waits for; what lacks an event or a wait comes too late and shows. Fresh memory is garbage,
// freed memory too. BROADSIDE_EMU_FAIL=N makes waits fail with error N. There are two GPUs, or BROADSIDE_EMU_GPUS of
// them; each has memory and streams of its own, which do not mix.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include <cuda_runtime.h>

#include "streams.h"

#define API extern "C" __attribute__((visibility("default")))

namespace emu {
namespace {

enum Result { ok = 0, invalid_value = 1, out_of_memory = 2, invalid_device = 101, invalid_context = 201, not_ready = 600, not_supported = 801, capture = 900 };

constexpr size_t memory_of_device = (size_t)16 << 30;

int devices() {
  const char *n = getenv("BROADSIDE_EMU_GPUS");
  return n && atoi(n) > 0 ? atoi(n) : 2;
}

// Op is what a stream does next: work, or waiting until another stream has done so many, or trying until it goes.
struct Op {
  std::function<void()> work;
  struct Stream *other;
  uint64_t until;
  std::function<bool()> attempt = nullptr;
};

} // namespace

struct Stream {
  int device = 0;
  std::deque<Op> ops;
  uint64_t queued = 0, done = 0;
  bool capturing = false;
  std::vector<Op> captured;
};

namespace {

struct Event {
  Stream *stream = nullptr;
  uint64_t at = 0;
};

typedef std::vector<Op> Graph;

std::recursive_mutex lock;
struct Block {
  size_t bytes;
  int device;
};
std::map<char *, Block> device_memory, pinned_memory;
thread_local int current = -1; // the device whose context the thread has

// held tells whether all bytes are of one block, of a device or of any (-1).
bool held(const std::map<char *, Block> &blocks, const void *p, size_t bytes, int device = -1) {
  auto next = blocks.upper_bound((char *)p);
  if (next == blocks.begin()) return false;
  auto block = std::prev(next);
  return (char *)p + bytes <= block->first + block->second.bytes && (device < 0 || block->second.device == device);
}

// run tells whether the stream gets there. It does not where something that is tried does not go yet.
bool run(Stream *s, uint64_t until) {
  while (s->done < until) {
    Op &next = s->ops.front();
    if (next.other && !run(next.other, next.until)) return false;
    if (next.attempt && !next.attempt()) return false;
    Op op = std::move(s->ops.front());
    s->ops.pop_front();
    if (op.work) op.work();
    s->done++;
  }
  return true;
}

Result failure() {
  const char *fail = getenv("BROADSIDE_EMU_FAIL");
  return fail && *fail ? (Result)atoi(fail) : ok;
}

// wait waits, as long as it may take; the caller has the lock once.
Result wait(Stream *s, uint64_t until) {
  if (s->capturing) return capture;
  if (Result failed = failure()) return failed;
  while (!run(s, until)) {
    lock.unlock();
    usleep(100);
    lock.lock();
  }
  return ok;
}

void push(Stream *s, Op op) {
  if (s->capturing) {
    s->captured.push_back(std::move(op));
    return;
  }
  s->ops.push_back(std::move(op));
  s->queued++;
}

typedef std::lock_guard<std::recursive_mutex> Guard;

} // namespace

void submit(cudaStream_t stream, std::function<void()> work) {
  if (!stream) return work();
  Guard guard(lock);
  push((Stream *)stream, {std::move(work), nullptr, 0});
}

std::recursive_mutex &driver_lock() { return lock; }
int current_device() { return current; }
bool on_device(int device, const void *p, size_t bytes) { return held(device_memory, p, bytes, device); }
bool advance(Stream *s, uint64_t until) { return run(s, until); }
uint64_t submit_when(Stream *s, std::function<bool()> attempt) {
  push(s, {nullptr, nullptr, 0, std::move(attempt)});
  return s->queued;
}

} // namespace emu

using namespace emu;

#define NEEDS_CONTEXT                  \
  if (current < 0) return invalid_context; \
  Guard guard(lock)

API int cuInit(unsigned) { return ok; }
API int cuDriverGetVersion(int *version) { return *version = 12000, ok; }
API int cuGetErrorString(int error, const char **text) {
  *text = error == out_of_memory ? "out of memory" : "an emulated error";
  return ok;
}

API int cuDeviceGetCount(int *count) { return *count = devices(), ok; }
API int cuDeviceGet(int *device, int ordinal) {
  if (ordinal < 0 || ordinal >= devices()) return invalid_device;
  return *device = ordinal, ok;
}
API int cuDeviceGetName(char *name, int bytes, int) {
  snprintf(name, (size_t)bytes, "emulated GPU");
  return ok;
}
API int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = memory_of_device, ok; }
API int cuDeviceGetAttribute(int *value, int attribute, int) {
  enum { multiprocessors = 16, capability_major = 75 };
  *value = attribute == capability_major ? 9 : attribute == multiprocessors ? 3 : 0; // compute capability 9.0
  return ok;
}
API int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = (void *)(intptr_t)(device + 1), ok; }
API int cuDevicePrimaryCtxRelease_v2(int) { return ok; }
API int cuCtxSetCurrent(void *context) { return current = (int)(intptr_t)context - 1, ok; }

API int cuMemGetInfo_v2(size_t *free, size_t *total) {
  NEEDS_CONTEXT;
  *free = *total = memory_of_device;
  for (auto &block : device_memory) *free -= block.second.device == current ? block.second.bytes : 0;
  return ok;
}
API int cuMemAlloc_v2(char **p, size_t bytes) {
  NEEDS_CONTEXT;
  if (!bytes) return invalid_value;
  *p = bytes > memory_of_device ? nullptr : (char *)aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*p) return out_of_memory;
  memset(*p, 0xff, bytes);
  device_memory[*p] = {bytes, current};
  return ok;
}
API int cuMemFree_v2(char *p) {
  NEEDS_CONTEXT;
  auto block = device_memory.find(p);
  if (block == device_memory.end()) return invalid_value;
  memset(p, 0xff, block->second.bytes);
  device_memory.erase(block);
  free(p);
  return ok;
}
API int cuMemHostAlloc(void **p, size_t bytes, unsigned) {
  NEEDS_CONTEXT;
  if (!(*p = malloc(bytes ? bytes : 1))) return out_of_memory;
  memset(*p, 0xff, bytes);
  pinned_memory[(char *)*p] = {bytes, -1};
  return ok;
}
API int cuMemFreeHost(void *p) {
  NEEDS_CONTEXT;
  if (!pinned_memory.erase((char *)p)) return invalid_value;
  free(p);
  return ok;
}

// A copy from memory that is not pinned takes the bytes at once, one from pinned memory when the stream comes to it.
API int cuMemcpyHtoDAsync_v2(char *to, const void *from, size_t bytes, Stream *s) {
  NEEDS_CONTEXT;
  if (!held(device_memory, to, bytes, s->device)) return invalid_value;
  if (held(pinned_memory, from, bytes)) {
    push(s, {[=] { memcpy(to, from, bytes); }, nullptr, 0});
  } else {
    std::vector<char> copy((const char *)from, (const char *)from + bytes);
    push(s, {[=] { memcpy(to, copy.data(), bytes); }, nullptr, 0});
  }
  return ok;
}
API int cuMemcpyDtoHAsync_v2(void *to, const char *from, size_t bytes, Stream *s) {
  NEEDS_CONTEXT;
  if (!held(device_memory, from, bytes, s->device)) return invalid_value;
  if (held(pinned_memory, to, bytes)) {
    push(s, {[=] { memcpy(to, from, bytes); }, nullptr, 0});
    return ok;
  }
  Result result = wait(s, s->queued);
  if (result == ok) memcpy(to, from, bytes);
  return result;
}
API int cuDeviceCanAccessPeer(int *can, int, int) { return *can = 1, ok; }
API int cuCtxEnablePeerAccess(void *, unsigned flags) { return flags ? invalid_value : ok; }
API int cuMemcpyPeerAsync(char *to, void *, const char *from, void *, size_t bytes, Stream *s) {
  NEEDS_CONTEXT;
  if (!held(device_memory, to, bytes) || !held(device_memory, from, bytes)) return invalid_value;
  push(s, {[=] { memmove(to, from, bytes); }, nullptr, 0});
  return ok;
}
API int cuMemsetD8Async(char *p, unsigned char value, size_t bytes, Stream *s) {
  NEEDS_CONTEXT;
  if (!held(device_memory, p, bytes, s->device)) return invalid_value;
  push(s, {[=] { memset(p, value, bytes); }, nullptr, 0});
  return ok;
}

API int cuStreamCreate(Stream **s, unsigned) {
  NEEDS_CONTEXT;
  *s = new Stream;
  (*s)->device = current;
  return ok;
}
API int cuStreamDestroy_v2(Stream *s) { // others may still wait for it, so it stays in memory
  NEEDS_CONTEXT;
  run(s, s->queued);
  return ok;
}
API int cuStreamSynchronize(Stream *s) {
  NEEDS_CONTEXT;
  return wait(s, s->queued);
}
API int cuStreamWaitEvent(Stream *s, const Event *e, unsigned) {
  NEEDS_CONTEXT;
  if (e->stream) push(s, {nullptr, e->stream, e->at});
  return ok;
}

API int cuEventCreate(Event **e, unsigned) {
  NEEDS_CONTEXT;
  return *e = new Event, ok;
}
API int cuEventDestroy_v2(Event *e) { return delete e, ok; }
API int cuEventRecord(Event *e, Stream *s) {
  NEEDS_CONTEXT;
  if (s->capturing) return not_supported;
  e->stream = s;
  e->at = s->queued;
  return ok;
}
API int cuEventQuery(const Event *e) {
  NEEDS_CONTEXT;
  if (Result failed = failure()) return failed;
  return !e->stream || run(e->stream, e->at) ? ok : not_ready;
}
API int cuEventSynchronize(const Event *e) {
  NEEDS_CONTEXT;
  return e->stream ? wait(e->stream, e->at) : ok;
}

API int cuStreamBeginCapture_v2(Stream *s, int) {
  NEEDS_CONTEXT;
  if (s->capturing) return capture;
  s->capturing = true;
  s->captured.clear();
  return ok;
}
API int cuStreamEndCapture(Stream *s, Graph **graph) {
  NEEDS_CONTEXT;
  if (!s->capturing) return capture;
  s->capturing = false;
  return *graph = new Graph(std::move(s->captured)), ok;
}
API int cuGraphInstantiateWithFlags(Graph **exec, const Graph *graph, unsigned long long) { return *exec = new Graph(*graph), ok; }
API int cuGraphDestroy(Graph *graph) { return delete graph, ok; }
API int cuGraphExecDestroy(Graph *exec) { return delete exec, ok; }
API int cuGraphLaunch(const Graph *exec, Stream *s) {
  NEEDS_CONTEXT;
  for (const Op &op : *exec) push(s, op);
  return ok;
}
