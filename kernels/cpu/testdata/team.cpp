// team.cpp: teams of threads under ThreadSanitizer, without the kernels. Every call of a pass reads what all members
// wrote in the call before, and itself meets between writing and reading. With the argument "weak" it leaves that
// meeting out, which ThreadSanitizer must report.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "run.h"
#include "cpu/table.h"
#include "cpu/team.h"

namespace {

enum { cells = 512, calls = 40 };
bool weak;

// turn writes a member's share of the second half, meets, and writes its share of the first half the other way round.
bs_status turn(const bs_shape *, void *const *arg, void *stream) {
  static const bs_cpu_member alone = {0, 1, nullptr, nullptr};
  const bs_cpu_member &m = stream ? *(const bs_cpu_member *)stream : alone;
  int32_t *first = (int32_t *)arg[0], *second = first + cells;
  int begin = cells * m.index / m.count, end = cells * (m.index + 1) / m.count;
  for (int i = begin; i < end; i++) second[i] = first[cells - 1 - i] + 1;
  if (m.count > 1 && !weak) bs_cpu_meet(&m);
  for (int i = begin; i < end; i++) first[i] = second[cells - 1 - i] + 1;
  return BS_OK;
}

bs_status fail(const bs_shape *, void *const *, void *) { return BS_BAD_ARGUMENT; }

// run has a team of each size run passes, some of which fail, and returns how many went wrong.
int run(const bs_kernels *table) {
  bs_cpu_team *team = bs_cpu_team_new();
  std::vector<int32_t> memory(2 * cells);
  void *base[BS_MAX_BASES] = {memory.data()};
  int wrong = 0;
  for (int32_t count : {1, 2, 2, 5, 3, 1, 8, 4}) {
    if (!bs_cpu_team_form(team, count, count * 100)) return 1;
    for (int pass = 0; pass < 20; pass++) {
      bs_call list[calls] = {};
      for (bs_call &c : list) c.kernel = BS_ADD, c.args = 1;
      int32_t bad = pass % 3 == 0 ? pass : calls, failed = calls;
      if (bad < calls) list[bad].kernel = BS_MULADD;
      std::fill(memory.begin(), memory.end(), 0);
      bs_status status = bs_cpu_run(table, list, calls, base, team, &failed);
      if (failed != bad || (status == BS_OK) != (bad == calls)) wrong++;
      for (int i = 0; i < cells; i++) wrong += memory[i] != 2 * bad;
    }
  }
  bs_cpu_team_free(team);
  return wrong;
}

} // namespace

int main(int argc, char **argv) {
  weak = argc > 1 && strcmp(argv[1], "weak") == 0;
  bs_kernels table = {};
  table.kernel[BS_ADD] = turn;
  table.kernel[BS_MULADD] = fail;
  int wrong[2];
  std::thread devices[] = {std::thread([&] { wrong[0] = run(&table); }), std::thread([&] { wrong[1] = run(&table); })};
  for (std::thread &d : devices) d.join();
  printf("teams of 1 to 8 threads on two devices: %d wrong\n", wrong[0] + wrong[1]);
  return wrong[0] + wrong[1] > 0;
}
