// hopper.cpp: what compute capability 9.0 has and others lack, on a CPU: mbarrier, bulk copies, wgmma.
//
// Sources: PTX ISA 8.x, sections mbarrier, cp.async.bulk(.tensor) and wgmma; the driver's cuTensorMapEncodeTiled.
#include <string.h>

#include <array>
#include <functional>
#include <map>
#include <vector>

#include <cuda_runtime.h>

#include "block.h"
#include "hopper.h"

#define API extern "C" __attribute__((visibility("default")))

namespace emu {
namespace {

// ---- barriers -------------------------------------------------------------------------------

struct Phases {
  int arrivals, missing; // of the current phase
  int64_t bytes;         // announced and not there
  unsigned ended;
  bool shown; // to the copy engine
};

struct BulkCopy {
  std::function<void()> copy;
  int bytes;
  const void *barrier;
};

// ---- products -------------------------------------------------------------------------------

struct Product {
  float *sum;
  int columns, group;
  const uint32_t *left; // the thread's registers, which must stay as they are
  uint32_t kept[4], quad[4][4];
  uint64_t right;
  bool tf32;
};

struct ThreadProducts {
  std::vector<Product> running;
  std::map<float *, std::vector<float>> sums; // those that running products add to
  int group = 0, issued = 0;
  bool fenced = false;
};

std::map<const void *, Phases> barriers;
std::vector<BulkCopy> copies;
std::vector<ThreadProducts> products;

constexpr uint32_t shared_begin = 1024;

bool late() { return order() >> 8 & 1; }

Phases &phases_of(const void *barrier) {
  auto found = barriers.find(barrier);
  if (found == barriers.end()) hang("a barrier was not initialised");
  return found->second;
}

void end_phase(const void *barrier, Phases &p) {
  if (p.missing || p.bytes) return;
  p.ended++;
  p.missing = p.arrivals;
  wake(barrier);
}

void finish(const BulkCopy &c) {
  c.copy();
  Phases &p = phases_of(c.barrier);
  p.bytes -= c.bytes;
  end_phase(c.barrier, p);
}

void start(void *shared, int bytes, const void *barrier, std::function<void()> copy) {
  expect_shared(shared, (size_t)bytes);
  if (!phases_of(barrier).shown) hang("the copy engine does not know a barrier");
  BulkCopy c = {std::move(copy), bytes, barrier};
  if (!late()) return finish(c);
  memset(shared, 0xff, (size_t)bytes);
  copies.push_back(std::move(c));
}

// ---- tensor maps ----------------------------------------------------------------------------

struct Map { // in the 128 bytes of a tensor map
  uint64_t magic;
  const char *tensor;
  uint64_t strides[3];
  uint32_t sizes[4], box[4], steps[4];
};
static_assert(sizeof(Map) <= 128, "a tensor map");
constexpr uint64_t map_magic = 0x626f782074656e73;

// copy_elements copies a box of floats; zeros where it lies outside the tensor.
void copy_elements(const Map &m, const std::array<int, 4> &first, float *to) {
  int count[4], at[4];
  for (int d = 0; d < 4; d++) count[d] = (int)((m.box[d] + m.steps[d] - 1) / m.steps[d]);
  for (at[3] = 0; at[3] < count[3]; at[3]++)
    for (at[2] = 0; at[2] < count[2]; at[2]++)
      for (at[1] = 0; at[1] < count[1]; at[1]++)
        for (at[0] = 0; at[0] < count[0]; at[0]++) {
          bool inside = true;
          int64_t byte = 0;
          for (int d = 0; d < 4; d++) {
            int64_t i = first[(size_t)d] + (int64_t)at[d] * m.steps[d];
            inside = inside && i >= 0 && i < m.sizes[d];
            byte += i * (d ? (int64_t)m.strides[d - 1] : 4);
          }
          *to++ = inside ? *(const float *)(m.tensor + byte) : 0;
        }
}

// ---- matrices -------------------------------------------------------------------------------

// A descriptor, K-major, without swizzle: bits 0 to 13 the address, 16 to 29 the step from 16 bytes of terms to the next,
// 32 to 45 that from 8 rows to the next 8, in units of 16 bytes; 49 to 51 an offset, 62 and 63 the swizzle.
const char *sixteen_bytes(uint64_t descriptor, int row, int unit) {
  if (descriptor >> 46) hang("a matrix descriptor has a swizzle or an offset, which are not emulated");
  auto bytes = [&](int bit) { return (int64_t)(descriptor >> bit & 0x3fff) << 4; };
  const char *p = (const char *)dynamic_shared() + (bytes(0) - shared_begin) + row / 8 * bytes(32) + row % 8 * 16 + unit * bytes(16);
  expect_shared(p, 16);
  return p;
}

// terms_of reads the elements of some registers: four tf32 numbers, of which the lower bits are cut, or eight bfloat16s.
int terms_of(const void *from, int registers, bool tf32, float *to) {
  for (int i = 0; i < registers; i++) {
    uint32_t bits;
    memcpy(&bits, (const char *)from + 4 * i, 4);
    if (tf32)
      *to++ = __uint_as_float(bits & 0xffffe000u);
    else
      *to++ = __uint_as_float(bits << 16), *to++ = __uint_as_float(bits & 0xffff0000u);
  }
  return tf32 ? registers : 2 * registers;
}

// multiply adds a product to the thread's sums: rows lane / 4 and 8 further on, columns 8 j + 2 (lane % 4) and the next.
void multiply(const Product &p, int lane, float *sum) {
  float left[2][2][8], right[8]; // left: of a row, of either half of the terms
  for (int r = 0; r < 4; r++)    // register r: row + 8 (r % 2), half r / 2 of the terms, of which each lane of four has a part
    for (int t = 0, at = 0; t < 4; t++) at += terms_of(&p.quad[t][r], 1, p.tf32, left[r % 2][r / 2] + at);
  for (int j = 0; j < p.columns / 8; j++)
    for (int e = 0; e < 2; e++)
      for (int half = 0; half < 2; half++) {
        int terms = terms_of(sixteen_bytes(p.right, 8 * j + 2 * (lane % 4) + e, half), 4, p.tf32, right);
        for (int h = 0; h < 2; h++)
          for (int k = 0; k < terms; k++) sum[4 * j + 2 * h + e] += left[h][half][k] * right[k];
      }
}

} // namespace

uint32_t shared_address(const void *p) { return shared_begin + (uint32_t)((const char *)p - (const char *)dynamic_shared()); }

void init_barrier(const void *barrier, int arrivals) {
  expect_aligned(barrier, 8);
  expect_shared(barrier, 8);
  barriers[barrier] = {arrivals, arrivals, 0, 0, false};
}

void show_barriers() {
  for (auto &b : barriers) b.second.shown = true;
}

void arrive(const void *barrier, int bytes) {
  Phases &p = phases_of(barrier);
  if (!p.missing) hang("more threads arrive at a barrier than it expects");
  if (bytes < 0 || bytes >= 1 << 20) hang("too many bytes for a barrier");
  p.missing--;
  p.bytes += bytes;
  end_phase(barrier, p);
}

void wait_phase(const void *barrier, uint32_t parity) {
  Phases &p = phases_of(barrier);
  while ((p.ended & 1) == parity) wait_event(barrier);
}

void copy_bulk(void *shared, const void *from, int bytes, const void *barrier) {
  expect_aligned(shared, 16);
  expect_aligned(from, 16);
  if (bytes % 16) hang("a bulk copy is of a multiple of 16 bytes");
  start(shared, bytes, barrier, [=] { memcpy(shared, from, (size_t)bytes); });
}

void copy_box(void *shared, const void *map, const int *first, const void *barrier) {
  Map m;
  memcpy(&m, map, sizeof m);
  if (m.magic != map_magic) hang("a tensor map was not encoded");
  expect_aligned(map, 64);
  expect_aligned(shared, 128);
  int bytes = 4;
  for (int d = 0; d < 4; d++) bytes *= (int)((m.box[d] + m.steps[d] - 1) / m.steps[d]);
  std::array<int, 4> at = {first[0], first[1], first[2], first[3]};
  start(shared, bytes, barrier, [=] { copy_elements(m, at, (float *)shared); });
}

void fence_products() {
  sync_warp(0xffffffffu);
  products[(size_t)thread()].fenced = true;
}

void commit_products() {
  ThreadProducts &t = products[(size_t)thread()];
  t.group++;
  t.fenced = false;
}

void multiply_async(float *sum, int columns, const uint32_t *left, uint64_t right, bool tf32) {
  struct Operands {
    uint64_t right;
    uint32_t left[4];
  } mine = {right, {left[0], left[1], left[2], left[3]}};
  const Operands *all = (const Operands *)exchange(0xffffffffu, &mine, sizeof mine);
  ThreadProducts &t = products[(size_t)thread()];
  if (!t.fenced) hang("a product without a fence since the last group");
  t.issued++;
  Product p = {sum, columns, t.group, left, {}, {}, right, tf32};
  memcpy(p.kept, left, sizeof p.kept);
  for (int i = 0; i < 4; i++) {
    const Operands &other = all[lane() / 4 * 4 + i];
    if (other.right != right) hang("lanes name different matrices");
    memcpy(p.quad[i], other.left, sizeof p.quad[i]);
  }
  std::vector<float> &sums = t.sums[sum];
  if (sums.empty()) {
    sums.assign(sum, sum + columns / 2);
    memset(sum, 0xff, (size_t)columns * 2);
  }
  t.running.push_back(p);
}

void wait_products(int newest) {
  sync_warp(0xffffffffu);
  ThreadProducts &t = products[(size_t)thread()];
  size_t done = 0;
  for (; done < t.running.size() && t.running[done].group < t.group - newest; done++) {
    const Product &p = t.running[done];
    if (memcmp(p.left, p.kept, sizeof p.kept)) hang("a fragment was changed before its product was done");
    multiply(p, lane(), t.sums[p.sum].data());
  }
  t.running.erase(t.running.begin(), t.running.begin() + (std::ptrdiff_t)done);
  for (auto s = t.sums.begin(); s != t.sums.end();) {
    bool running = false;
    for (const Product &p : t.running) running = running || p.sum == s->first;
    if (!running) memcpy(s->first, s->second.data(), s->second.size() * sizeof(float));
    s = running ? std::next(s) : t.sums.erase(s);
  }
}

void begin_hopper() {
  barriers.clear();
  copies.clear();
  products.clear();
  products.resize((size_t)threads());
}

// The youngest copy first or the oldest, as the block's order has it.
bool advance_hopper() {
  if (copies.empty()) return false;
  auto next = order() >> 9 & 1 ? copies.begin() : copies.end() - 1;
  BulkCopy c = std::move(*next);
  copies.erase(next);
  finish(c);
  return true;
}

void end_hopper() {
  if (!copies.empty()) hang("a block ended before its bulk copies");
  for (size_t i = 0; i < products.size(); i++) {
    if (!products[i].running.empty()) hang("a thread ended before its products");
    size_t first = i / 128 * 128; // of the warpgroup
    if (products[i].issued != products[first].issued) hang("warps of a warpgroup made different products");
  }
}

} // namespace emu

// Only what the kernels use is taken: four dimensions of floats, no interleaving, no swizzle.
API int cuTensorMapEncodeTiled(void *map, int type, uint32_t rank, void *address, const uint64_t *sizes, const uint64_t *strides,
                               const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int l2_promotion, int fill) {
  enum { invalid_value = 1, float32 = 7 };
  bool bad = (uintptr_t)map % 64 || (uintptr_t)address % 16 || type != float32 || rank != 4 || interleave || swizzle || fill ||
             l2_promotion < 0 || l2_promotion > 3 || box[0] * 4 % 16;
  for (int d = 0; d < 4 && !bad; d++) {
    bad = !sizes[d] || sizes[d] > (uint64_t)1 << 32 || !box[d] || box[d] > 256 || !steps[d] || steps[d] > 8;
    if (d < 3) bad = bad || strides[d] % 16 || strides[d] >= (uint64_t)1 << 40;
  }
  if (bad) return invalid_value;
  emu::Map m = {emu::map_magic, (const char *)address, {}, {}, {}, {}};
  for (int d = 0; d < 4; d++) m.sizes[d] = (uint32_t)sizes[d], m.box[d] = box[d], m.steps[d] = d ? steps[d] : 1;
  for (int d = 0; d < 3; d++) m.strides[d] = strides[d];
  memcpy(map, &m, sizeof m);
  return 0;
}
