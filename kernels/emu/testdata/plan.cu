// plan.cu: what no result shows of the convolutions: shapes too large for their indexes, and bank conflicts. It prints
// what is wrong. emu_test.go runs it.
#include <stdio.h>

#include <set>

#include "conv2d_plan.cuh"

using namespace bs::cuda;

uint3 threadIdx; // of the thread whose part of a slab is asked for

namespace {

int wrong;

void expect(bool right, const char *what) {
  if (!right) printf("%s\n", what), wrong++;
}

// ---- the largest shapes

bs_conv2d shape(int n, int h, int w, int c, int k, int taps = 1, int pad = 0, int groups = 1) {
  bs_conv2d s = {};
  s.n = n, s.h = h, s.w = w, s.c = c, s.k = k, s.r = s.s = taps, s.pad_h = s.pad_w = pad, s.groups = groups;
  s.stride_h = s.stride_w = 1, s.oh = h + 2 * pad - taps + 1, s.ow = w + 2 * pad - taps + 1;
  return s;
}

void check_fits() {
  expect(fits(shape(1024, 224, 224, 64, 64, 3, 1)), "a batch of 2^31 cells and more is refused");
  expect(fits(shape(1, 32767, 65535, 1, 1)), "an image of less than 2^31 cells is refused");
  expect(!fits(shape(1, 32768, 65536, 1, 1)), "an image of 2^31 cells is taken");
  expect(!fits(shape(1, 32767, 65535, 1, 1, 3, 1)), "an image that has 2^31 cells when padded is taken");
  expect(!fits(shape(1, 1024, 1024, 1, 2048)), "an output image of 2^31 cells is taken");
  expect(fits(shape(1, 1, 1, 46340, 46340)), "weights of less than 2^31 cells are refused");
  expect(!fits(shape(1, 1, 1, 46341, 46341)), "weights of more than 2^31 cells are taken");
  expect(fits(shape(1, 1, 1, 46342, 46342, 1, 0, 2)), "the weights of groups are refused");
  expect(fits(shape(1 << 20, 2047, 1, 1, 1)), "less than 2^31 rows of pixels are refused");
  expect(!fits(shape(1 << 20, 2048, 1, 1, 1)), "2^31 rows of pixels are taken");
  expect(!fits(shape(0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff)), "the largest numbers are taken");
}

// ---- banks

// A Wavefront is what threads access at once: units of equal size, which must lie in different banks of 128 bytes.
class Wavefront {
  std::set<int> banks_;

public:
  // access takes the place in bytes of one thread's `size` bytes.
  void access(int at, int size, const char *what) { expect(banks_.insert(at % 128 / size).second, what); }
};

template <typename Factor, int threads> void check_writes(int cell, int cells, const char *what) {
  using C = typename Factor::template Dealt<threads>;
  int bytes = cells * cell, together = 128 / bytes; // of a thread, and threads of a wavefront
  for (int i = 0; i < C::count; i++)
    for (int t = 0; t < threads; t += together) {
      Wavefront w;
      for (threadIdx.x = t; (int)threadIdx.x < t + together; threadIdx.x++)
        if (C::mine(i)) w.access(Factor::place(C::row(i), C::col(i)) * cell, bytes, what);
    }
}

template <int Count, int Warp, bool inner, int threads> void check_tf32() {
  using F = Tf32Factor<Count, Warp, inner>;
  check_writes<F, threads>(4, 4, "tf32: copies to shared memory meet in a bank");
  for (int first = 0; first < Count; first += Warp)
    for (int k = 0; k < F::depth; k += 4)
      for (int j = 0; j < F::groups; j += inner ? 1 : F::side) {
        int lanes = inner ? 8 : 32 / F::side, bytes = inner ? 16 : 4 * F::side;
        for (int start = 0; start < (inner ? 8 : 32); start += lanes) {
          Wavefront w;
          for (int l = start; l < start + lanes; l++) {
            int cell = inner ? F::place(first + F::index(l, j), k) : F::place(k + l % 4, first + F::index(l / 4, j));
            w.access(4 * cell, bytes, "tf32: fragments meet in a bank");
          }
        }
      }
}

template <int Count, int depth, bool inner, int threads> void check_bf16() {
  using F = MmaFactor<Count, depth, inner>;
  check_writes<F, threads>(2, 4, "bf16: stores to shared memory meet in a bank");
  for (int row = 0; row < Count; row += 8)
    for (int term = 0; term < depth; term += 8) {
      Wavefront w;
      for (int l = 0; l < 8; l++)
        w.access(2 * (inner ? F::place(row + l, term) : F::place(term + l, row)), 16, "bf16: fragments meet in a bank");
    }
}

// The factors of a tile of tensor cores: pixels have terms side by side, weights either, and gradients rows.
template <typename Tile> struct Banks {
  static void pixels() {}
  static void weights() {}
};

template <int Rows, int Cols, int WarpRows, int WarpCols, int Blocks> struct Banks<Tf32Tile<Rows, Cols, WarpRows, WarpCols, Blocks>> {
  static constexpr int threads = Tf32Tile<Rows, Cols, WarpRows, WarpCols, Blocks>::threads;
  static void pixels() {
    check_tf32<Rows, WarpRows, true, threads>();
    check_tf32<Cols, WarpCols, true, threads>();
    check_tf32<Cols, WarpCols, false, threads>();
  }
  static void weights() {
    check_tf32<Rows, WarpRows, false, threads>();
    check_tf32<Cols, WarpCols, false, threads>();
  }
};

template <int Rows, int Cols, int WarpRows, int WarpCols, int Blocks, int Depth>
struct Banks<MmaTile<Rows, Cols, WarpRows, WarpCols, Blocks, Depth>> {
  static constexpr int threads = MmaTile<Rows, Cols, WarpRows, WarpCols, Blocks, Depth>::threads;
  static void pixels() {
    check_bf16<Rows, Depth, true, threads>();
    check_bf16<Cols, Depth, true, threads>();
    check_bf16<Cols, Depth, false, threads>();
  }
  static void weights() {
    check_bf16<Rows, Depth, false, threads>();
    check_bf16<Cols, Depth, false, threads>();
  }
};

void check_banks() {
  for (int precision : {BS_BF16, BS_TF32})
    for (int width : tile_width) {
      auto pixels = [](auto tile) {
        Banks<decltype(tile)>::pixels();
        return BS_OK;
      };
      auto weights = [](auto tile) {
        Banks<decltype(tile)>::weights();
        return BS_OK;
      };
      with_pixel_tile(width, precision, pixels);
      with_weight_tile(width, precision, weights);
    }
}

} // namespace

int main() {
  check_fits();
  check_banks();
  return wrong ? 1 : 0;
}
