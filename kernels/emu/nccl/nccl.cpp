// nccl.cpp: the part of NCCL that broadside/engine/collective/nccl calls, over the emulated driver's streams and within one process:
// BROADSIDE_LIBNCCL names this library.
//
// Like NCCL in its non-blocking mode it does everything late: a call only answers "in progress", and what it asked
// for is queued when the communicator's state is asked for. A collective runs when all ranks' streams have come to it,
// and hangs until then. Sums go round the ranks as in a ring, so they differ from a tree's in rounding.
// BROADSIDE_EMU_NCCL_FAIL=R makes rank R see a failure of another rank, asynchronously.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "streams.h"

#define API extern "C" __attribute__((visibility("default")))

using emu::Stream;

namespace {

enum Result { success = 0, internal_error = 3, invalid_argument = 4, invalid_usage = 5, remote_error = 6, in_progress = 7 };
enum Kind { all_reduce, reduce, reduce_scatter, all_gather, broadcast };
enum { type_float = 7, op_sum = 0 };

struct Id {
  char internal[128];
};
struct Config { // as of version 2.14
  size_t size;
  unsigned magic, version;
  int blocking;
};

// Call is one call of a collective by one rank.
struct Call {
  Kind kind;
  const float *from;
  float *to;
  size_t count;
  int root;
};

// Share is one rank's share of a collective, which is what a group of calls becomes.
struct Share {
  std::vector<Call> calls;
  Stream *stream = nullptr;
  uint64_t place = 0;    // in the stream
  bool arrived = false;  // the stream has come to it
  bool trying = false;   // further down the stack
};

struct Collective {
  std::map<int, Share> shares;
  bool done = false;
};

struct Group {
  int size;
  int joined = 0, finalized = 0;
  std::vector<std::shared_ptr<Collective>> collectives;
};

std::map<std::string, std::shared_ptr<Group>> groups;
int next_id;

} // namespace

struct ncclComm {
  std::shared_ptr<Group> group;
  int rank, device;
  size_t number = 0; // of the next collective
  Result failed = success;
  bool joined = false, finalizing = false, aborted = false;
  std::vector<Call> calls; // not queued yet
  Stream *stream = nullptr;

  ncclComm(std::shared_ptr<Group> group, int rank, int device) : group(group), rank(rank), device(device) {}
};

namespace {

thread_local int depth;                    // of groups of calls
thread_local std::vector<ncclComm *> late; // the communicators called in the group

typedef std::lock_guard<std::recursive_mutex> Guard;

size_t sent(const Call &c, int size) { return c.kind == reduce_scatter ? c.count * size : c.count; }
size_t received(const Call &c, int size) { return c.kind == all_gather ? c.count * size : c.count; }

// sum adds element i of all ranks' inputs, round the ring from the rank behind the one that has the part i is in.
float sum(const std::vector<std::vector<float>> &in, size_t i) {
  int n = (int)in.size(), first = (int)(i * n / in[0].size()) + 1;
  float total = in[first % n][i];
  for (int r = 1; r < n; r++) total += in[(first + r) % n][i];
  return total;
}

// perform does call `at` of each rank's share.
void perform(Collective &all, size_t at) {
  int size = (int)all.shares.size();
  std::vector<std::vector<float>> in;
  for (auto &share : all.shares) {
    const Call &c = share.second.calls[at];
    in.emplace_back(c.from, c.from + sent(c, size));
  }
  for (auto &share : all.shares) {
    const Call &c = share.second.calls[at];
    int rank = share.first;
    for (size_t i = 0; i < received(c, size); i++) switch (c.kind) {
      case all_reduce: c.to[i] = sum(in, i); break;
      case reduce: if (rank == c.root) c.to[i] = sum(in, i); break;
      case reduce_scatter: c.to[i] = sum(in, rank * c.count + i); break;
      case all_gather: c.to[i] = in[i / c.count][i % c.count]; break;
      case broadcast: c.to[i] = in[c.root][i]; break;
      }
  }
}

bool alike(const Share &a, const Share &b) {
  if (a.calls.size() != b.calls.size()) return false;
  for (size_t i = 0; i < a.calls.size(); i++)
    if (a.calls[i].kind != b.calls[i].kind || a.calls[i].count != b.calls[i].count || a.calls[i].root != b.calls[i].root) return false;
  return true;
}

// attempt tells whether the collective is over, or this rank has nothing to do with it any more.
bool attempt(ncclComm *comm, const std::shared_ptr<Collective> &all) {
  if (comm->aborted || all->done) return true;
  Share &own = all->shares[comm->rank];
  if (own.trying) return false;
  own.trying = own.arrived = true;
  bool complete = (int)all->shares.size() == comm->group->size;
  for (auto &other : all->shares) {
    Share &s = other.second;
    if (!s.arrived) s.arrived = emu::advance(s.stream, s.place - 1);
    complete = complete && s.arrived;
  }
  own.trying = false;
  if (!complete || all->done) return all->done;
  for (auto &other : all->shares)
    if (!alike(own, other.second)) {
      fprintf(stderr, "emulated NCCL: rank %d and rank %d are in different collectives\n", comm->rank, other.first);
      comm->failed = invalid_usage;
      return false;
    }
  for (size_t i = 0; i < own.calls.size(); i++) perform(*all, i);
  return all->done = true;
}

// queue queues the communicator's calls as one collective.
void queue(ncclComm *comm) {
  Group &group = *comm->group;
  if (group.collectives.size() <= comm->number) group.collectives.push_back(std::make_shared<Collective>());
  std::shared_ptr<Collective> all = group.collectives[comm->number++];
  Share &own = all->shares[comm->rank];
  own.calls.swap(comm->calls);
  own.stream = comm->stream;
  own.place = emu::submit_when(comm->stream, [=] { return attempt(comm, all); });
  const char *fail = getenv("BROADSIDE_EMU_NCCL_FAIL");
  if (fail && *fail && atoi(fail) == comm->rank) comm->failed = remote_error;
}

Result call(ncclComm *comm, Stream *stream, Call c, int type, int op) {
  Guard guard(emu::driver_lock());
  if (!comm || type != type_float || op != op_sum || c.root < 0 || c.root >= comm->group->size) return invalid_argument;
  if (!comm->joined || comm->finalizing || comm->aborted || (!depth && !comm->calls.empty())) return invalid_usage;
  int size = comm->group->size;
  if (emu::current_device() != comm->device) return invalid_usage;
  if (c.count && (!emu::on_device(comm->device, c.from, 4 * sent(c, size)) || !emu::on_device(comm->device, c.to, 4 * received(c, size))))
    return invalid_argument;
  comm->calls.push_back(c);
  comm->stream = stream;
  if (depth) late.push_back(comm);
  return in_progress;
}

} // namespace

API int ncclGetVersion(int *version) { return *version = 22703, success; }
API const char *ncclGetErrorString(int result) {
  switch (result) {
  case success: return "no error";
  case remote_error: return "remote process exited or there was a network error";
  case invalid_argument: return "invalid argument";
  case invalid_usage: return "invalid usage";
  default: return "an emulated error";
  }
}
API const char *ncclGetLastError(ncclComm *) { return "told by the emulator"; }
API int ncclGetUniqueId(Id *id) {
  Guard guard(emu::driver_lock());
  memset(id->internal, 0x5a, sizeof id->internal);
  snprintf(id->internal, sizeof id->internal, "emulated %d", next_id++);
  return success;
}
API int ncclCommInitRankConfig(ncclComm **comm, int size, Id id, int rank, const Config *config) {
  Guard guard(emu::driver_lock());
  if (!config || config->size != sizeof(Config) || config->magic != 0xcafebeef || config->version != 21400 || config->blocking) return invalid_argument;
  if (size < 1 || rank < 0 || rank >= size || emu::current_device() < 0) return invalid_argument;
  auto &group = groups[std::string(id.internal, sizeof id.internal)];
  if (!group) group = std::make_shared<Group>(Group{size, 0, 0, {}});
  if (group->size != size) return invalid_usage;
  *comm = new ncclComm(group, rank, emu::current_device());
  group->joined++;
  return in_progress;
}
API int ncclCommGetAsyncError(ncclComm *comm, int *state) {
  Guard guard(emu::driver_lock());
  if (!comm->joined) {
    comm->joined = comm->group->joined == comm->group->size;
    return *state = in_progress, success;
  }
  if (comm->finalizing) return *state = comm->group->finalized == comm->group->size ? success : in_progress, success;
  if (!comm->calls.empty()) {
    queue(comm);
    return *state = in_progress, success;
  }
  return *state = comm->failed, success;
}
API int ncclCommFinalize(ncclComm *comm) {
  Guard guard(emu::driver_lock());
  if (comm->finalizing || !comm->calls.empty()) return invalid_usage;
  comm->finalizing = true;
  comm->group->finalized++;
  return in_progress;
}
API int ncclCommDestroy(ncclComm *comm) { // streams may still hold it, so it stays in memory
  Guard guard(emu::driver_lock());
  return comm->finalizing && comm->group->finalized == comm->group->size ? success : invalid_usage;
}
API int ncclCommAbort(ncclComm *comm) {
  Guard guard(emu::driver_lock());
  comm->aborted = true;
  return success;
}
API int ncclGroupStart() { return depth++, success; }
API int ncclGroupEnd() {
  if (!depth) return invalid_usage;
  if (--depth) return success;
  bool any = !late.empty();
  late.clear();
  return any ? in_progress : success;
}
API int ncclAllReduce(const float *from, float *to, size_t count, int type, int op, ncclComm *comm, Stream *s) {
  return call(comm, s, {all_reduce, from, to, count, 0}, type, op);
}
API int ncclReduce(const float *from, float *to, size_t count, int type, int op, int root, ncclComm *comm, Stream *s) {
  return call(comm, s, {reduce, from, to, count, root}, type, op);
}
API int ncclReduceScatter(const float *from, float *to, size_t count, int type, int op, ncclComm *comm, Stream *s) {
  return call(comm, s, {reduce_scatter, from, to, count, 0}, type, op);
}
API int ncclAllGather(const float *from, float *to, size_t count, int type, ncclComm *comm, Stream *s) {
  return call(comm, s, {all_gather, from, to, count, 0}, type, op_sum);
}
API int ncclBroadcast(const float *from, float *to, size_t count, int type, int root, ncclComm *comm, Stream *s) {
  return call(comm, s, {broadcast, from, to, count, root}, type, op_sum);
}
