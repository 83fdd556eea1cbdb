// share.h: how a kernel divides its work among the members of a team (team.h).
//
// A kernel cuts its work into units that depend on the shape alone, and each member does a run of them; so the
// bits are the same for any team. What members share lies in the workspace, and they meet between writing and
// reading it. What a member needs for itself lies in own_cells. Statuses are decided before anything is shared.

// The place of a thread without a team.
static const bs_cpu_member alone = {0, 1, NULL, NULL};

// member_of is the place of the thread that runs a kernel, which its stream argument points to.
BS_INLINE const bs_cpu_member &member_of(void *stream) { return stream ? *(const bs_cpu_member *)stream : alone; }

BS_INLINE void meet(const bs_cpu_member &m) {
  if (m.count > 1) bs_cpu_meet(&m);
}

// A run of units: [first, end).
struct range {
  int64_t first, end;
};

// share_of is a member's part of so many units, part_of part i of `parts`.
BS_INLINE range part_of(int64_t units, int64_t i, int64_t parts) { return {units * i / parts, units * (i + 1) / parts}; }
BS_INLINE range share_of(const bs_cpu_member &m, int64_t units) { return part_of(units, m.index, m.count); }

// share_cells is a member's part of so many cells, in whole pages but for the last.
enum { share_unit = 1024 };
BS_INLINE range share_cells(const bs_cpu_member &m, int64_t cells) {
  range r = share_of(m, (cells + share_unit - 1) / share_unit);
  return {r.first * share_unit, r.end * share_unit < cells ? r.end * share_unit : cells};
}

// own_cells is where a member's own part of the workspace lies: for the first, and without a team, behind what
// all share.
BS_INLINE float *own_cells(const bs_cpu_member &m, float *behind) { return m.index > 0 ? (float *)m.scratch : behind; }
