// batchnorm_tile.h: what the four batch norm passes share.
//
// A ghost's activations are one run of floats in which the channel repeats every c. They are walked
// in rows of `width` floats, a multiple of c chosen so that rows are whole vectors even where c is 3
// or 10. Per-channel coefficients are laid out over a row ("tables"), so that all loops are plain.
//
// Sums: a column block (BLOCK vectors, kept in registers) is added up over at most SUM_ROWS rows in
// float; these partial sums are added in double. Integers that fit are summed exactly.
//
// Members of a team share a ghost's rows. For its sums the rows fall into at most SUM_PARTS parts, whose doubles
// lie in the workspace for all; between the two sweeps the members meet, and each adds up the parts and lays out
// the tables for itself. What a kernel puts out per channel is the first member's to write.

enum { BLOCK = 4, SUM_ROWS = 256, SUM_PARTS = 8, MAX_WIDTH = 2048 };

// row_width returns the floats of a row: lcm(c, BLOCK VW), or c where that is too long.
static int row_width(int c) {
  int a = c, b = BLOCK * VW;
  while (b) {
    int rest = a % b;
    a = b;
    b = rest;
  }
  int64_t width = (int64_t)c / a * (BLOCK * VW);
  return width <= MAX_WIDTH ? (int)width : c;
}

// A ghost: its first float, how many floats, and its parameter set.
struct ghost {
  int index, set;
  int64_t begin, floats;
  double values; // per channel
};

static ghost ghost_at(const bs_batchnorm &s, const int32_t *set, int index) {
  int64_t begin = (int64_t)index * s.ghost, end = begin + s.ghost < s.n ? begin + s.ghost : s.n;
  int64_t sample = (int64_t)s.hw * s.c;
  return ghost{index, set ? set[index] : 0, begin * sample, (end - begin) * sample, (double)((end - begin) * s.hw)};
}

// bad_sets reports a negative parameter set. (How many there are is the caller's to know.)
static bool bad_sets(const bs_batchnorm &s, const int32_t *set) {
  if (!set) return false;
  for (int g = 0; g < bs_ghosts(&s); g++)
    if (set[g] < 0) return true;
  return false;
}

// The workspace of a batch norm kernel: two double sums per channel for each part of the rows, and of each member
// two for all of them and up to MAX_TABLES tables.
enum { MAX_TABLES = 8 };

struct bn_workspace {
  const bs_cpu_member &team;
  int c, width;
  double *parts; // [SUM_PARTS][2][c]
  double *sum_a, *sum_b;
  float *tables;

  // part i with its own sums in the place of all rows'.
  bn_workspace part(int64_t i) const {
    double *sums = parts + 2 * i * c;
    return bn_workspace{team, c, width, parts, sums, sums + c, tables};
  }
  // table i, one float per float of a row.
  float *table(int i) const { return tables + (int64_t)i * width; }
};

static int64_t bn_workspace_cells(const bs_batchnorm &s) {
  return 16 + (SUM_PARTS + 1) * 4 * (int64_t)s.c + MAX_TABLES * (int64_t)row_width(s.c);
}

static bn_workspace bn_workspace_at(const bs_cpu_member &m, void *cells, const bs_batchnorm &s) {
  double *parts = (double *)(((uintptr_t)cells + 63) & ~(uintptr_t)63); // 15 of the 16 spare cells
  double *sums = (double *)own_cells(m, (float *)(parts + SUM_PARTS * 2 * (int64_t)s.c));
  return bn_workspace{m, s.c, row_width(s.c), parts, sums, sums + s.c, (float *)(sums + 2 * (int64_t)s.c)};
}

// spread repeats a table's first c floats over the row.
static void spread(const bn_workspace &ws, int tables) {
  for (int i = 0; i < tables; i++) {
    float *t = ws.table(i);
    for (int at = ws.c; at < ws.width; at += ws.c) memcpy(t + at, t, sizeof(float) * (size_t)ws.c);
  }
}

// rows_of is the floats of rows [r.first, r.end), of `floats` floats in rows of `width`.
BS_INLINE range rows_of(range r, int width, int64_t floats) {
  return {r.first * width, r.end * width < floats ? r.end * width : floats};
}

// each_in_rows calls op(lanes, i, j) for vectors covering a member's share of floats [0, floats); j is i's place in
// its row.
template <class Op>
BS_INLINE void each_in_rows(const bn_workspace &ws, int64_t floats, Op op) {
  const int width = ws.width;
  range mine = rows_of(share_of(ws.team, (floats + width - 1) / width), width, floats);
  for (int64_t row = mine.first; row < mine.end; row += width) {
    int n = mine.end - row < width ? (int)(mine.end - row) : width, j = 0;
    for (; j + VW <= n; j += VW) op(whole{}, row + j, j);
    if (j < n) op(first{n - j}, row + j, j);
  }
}

// merge adds lanes of float sums to the double sums of their channels; lane 0 is channel `channel`.
BS_INLINE void merge(const bn_workspace &ws, int channel, int lanes, const float *a, const float *b) {
  for (int i = 0; i < lanes;) {
    int run = ws.c - channel < lanes - i ? ws.c - channel : lanes - i;
    double *to_a = ws.sum_a + channel, *to_b = ws.sum_b + channel;
    for (int k = 0; k < run; k++) {
      to_a[k] += a[i + k];
      to_b[k] += b[i + k];
    }
    i += run;
    channel = 0;
  }
}

// sum_block adds op(lanes, i, j, a, b) over `rows` rows of NV vectors that start at float `at`.
template <int NV, class Lanes, class Op>
BS_INLINE void sum_block(const bn_workspace &ws, int64_t at, int j, int rows, Lanes lanes, int count, Op op) {
  vf a[NV] = {}, b[NV] = {};
  for (int row = 0; row < rows; row++, at += ws.width)
    for (int v = 0; v < NV; v++) op(lanes, at + v * VW, j + v * VW, a[v], b[v]);
  float sums[2][NV * VW];
  for (int v = 0; v < NV; v++) {
    store(sums[0] + v * VW, a[v]);
    store(sums[1] + v * VW, b[v]);
  }
  merge(ws, j % ws.c, count, sums[0], sums[1]);
}

// each_column_block calls block(at, j, rows, n): n = BLOCK VW columns from float `at`, or at the end
// of a row n <= VW of them, over at most SUM_ROWS rows of `width`. It covers a range of floats from a row's first on.
template <class Block>
BS_INLINE void each_column_block(range floats, int width, Block block) {
  for (int64_t begin = floats.first; begin < floats.end;) {
    int64_t left = floats.end - begin;
    int rows = left >= (int64_t)SUM_ROWS * width ? (int)SUM_ROWS : (int)(left / width);
    int n = rows ? width : (int)left; // the last row may be short
    if (!rows) rows = 1;
    for (int j = 0; j < n;) {
      int columns = n - j >= BLOCK * VW ? BLOCK * VW : n - j < VW ? n - j : (int)VW;
      block(begin + j, j, rows, columns);
      j += columns;
    }
    begin += (int64_t)rows * n;
  }
}

// sum_in_parts sets ws.sum_a and ws.sum_b to the sums over all rows. block(part, at, j, rows, n) adds what
// each_column_block covers to the sums of `part`.
template <class Block>
BS_INLINE void sum_in_parts(const bn_workspace &ws, int64_t floats, Block block) {
  int64_t rows = (floats + ws.width - 1) / ws.width, parts = rows / SUM_ROWS;
  if (parts < 1) parts = 1;
  if (parts > SUM_PARTS) parts = SUM_PARTS;
  range mine = share_of(ws.team, parts);
  for (int64_t i = mine.first; i < mine.end; i++) {
    bn_workspace part = ws.part(i);
    memset(part.sum_a, 0, 2 * sizeof(double) * (size_t)ws.c);
    each_column_block(rows_of(part_of(rows, i, parts), ws.width, floats), ws.width,
                      [&](int64_t at, int j, int n_rows, int n) { block(part, at, j, n_rows, n); });
  }
  meet(ws.team);
  memcpy(ws.sum_a, ws.parts, 2 * sizeof(double) * (size_t)ws.c);
  for (int64_t i = 1; i < parts; i++) {
    const double *sums = ws.part(i).sum_a;
    for (int c = 0; c < 2 * ws.c; c++) ws.sum_a[c] += sums[c];
  }
  meet(ws.team); // the next ghost's sums may take the place of these
}

// channel_sums sets ws.sum_a and ws.sum_b to the per-channel sums of what op(lanes, i, j, a, b) adds
// to the vectors a and b for the floats at i, which lie at j of their row.
template <class Op>
BS_INLINE void channel_sums(const bn_workspace &ws, int64_t floats, Op op) {
  sum_in_parts(ws, floats, [&](const bn_workspace &part, int64_t at, int j, int rows, int n) {
    if (n == BLOCK * VW)
      sum_block<BLOCK>(part, at, j, rows, whole{}, n, op);
    else
      sum_block<1>(part, at, j, rows, first{n}, n, op);
  });
}
