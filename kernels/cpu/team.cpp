// team.cpp: the threads of a team, how they wait for work and for one another.
//
// Waiting is spinning at first, for members that do equal shares arrive together, and then sleeping: a
// team between two passes, and one that waits for a member without a processor, leave the cores to others.
#include "team.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace {

enum { line_bytes = 64, cell_bytes = 4 };

// Rounds of spinning before a thread sleeps: some 50 microseconds, which is what waking it costs.
// Now and then it lets another thread run, for on a busy machine the one it waits for may want the same core.
enum { spins = 2000, yield_every = 64 };

void pause_processor() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

// A counter that threads wait on.
struct alignas(line_bytes) event {
  uint32_t count, sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
};

void init(event *e) {
  pthread_mutex_init(&e->mutex, nullptr);
  pthread_cond_init(&e->changed, nullptr);
}

void destroy(event *e) {
  pthread_cond_destroy(&e->changed);
  pthread_mutex_destroy(&e->mutex);
}

uint32_t count_of(event *e) { return __atomic_load_n(&e->count, __ATOMIC_SEQ_CST); }

// advance counts the event. Either it sees a sleeper, or the sleeper sees the new count: both write before they
// read, in one order for all.
void advance(event *e) {
  __atomic_add_fetch(&e->count, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&e->sleepers, __ATOMIC_SEQ_CST) == 0) return;
  pthread_mutex_lock(&e->mutex);
  pthread_cond_broadcast(&e->changed);
  pthread_mutex_unlock(&e->mutex);
}

// wait_past returns when the count is no longer `old`.
void wait_past(event *e, uint32_t old) {
  for (int i = 0; i < spins; i++) {
    if (count_of(e) != old) return;
    if (i % yield_every == yield_every - 1) sched_yield();
    else pause_processor();
  }
  pthread_mutex_lock(&e->mutex);
  __atomic_add_fetch(&e->sleepers, 1, __ATOMIC_SEQ_CST);
  while (count_of(e) == old) pthread_cond_wait(&e->changed, &e->mutex);
  __atomic_sub_fetch(&e->sleepers, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&e->mutex);
}

void *lined_alloc(size_t bytes) {
  void *p = nullptr;
  return posix_memalign(&p, line_bytes, bytes) ? nullptr : p;
}

} // namespace

struct bs_cpu_team {
  event start;   // passes begun, and the end of the threads
  event meeting; // meetings held
  alignas(line_bytes) int32_t arrived; // at the meeting under way
  bs_cpu_pass *pass; // NULL: the threads end
  int64_t cells;     // of scratch
  int32_t count;
  bs_cpu_member member[BS_CPU_MAX_MEMBERS];
  pthread_t thread[BS_CPU_MAX_MEMBERS]; // of members 1 to count - 1
  uint32_t started;                     // what start counted before the threads began
};

namespace {

// serve is the life of a member but the first.
void *serve(void *place) {
  const bs_cpu_member *m = (const bs_cpu_member *)place;
  for (uint32_t seen = m->team->started;; seen++) {
    wait_past(&m->team->start, seen);
    if (!m->team->pass) return nullptr;
    bs_cpu_walk(m->team->pass, m);
  }
}

// disband ends all threads but the caller's.
void disband(bs_cpu_team *team) {
  team->pass = nullptr;
  if (team->count > 1) advance(&team->start);
  for (int32_t i = 1; i < team->count; i++) {
    pthread_join(team->thread[i], nullptr);
    free(team->member[i].scratch);
  }
  team->member[0] = {0, 1, team, nullptr};
  team->count = 1;
  team->cells = 0;
}

// enlist starts the thread of the next member.
bool enlist(bs_cpu_team *team, int32_t count, int64_t cells) {
  bs_cpu_member *m = &team->member[team->count];
  *m = {team->count, count, team, lined_alloc((size_t)(cells > 0 ? cells : 1) * cell_bytes)};
  if (!m->scratch) return false;
  if (pthread_create(&team->thread[team->count], nullptr, serve, m)) {
    free(m->scratch);
    return false;
  }
  team->count++;
  return true;
}

// block_signals keeps signals meant for the program from the threads started until they are restored. Faults of
// a thread's own cannot be blocked sensibly.
void block_signals(sigset_t *saved) {
  sigset_t all;
  sigfillset(&all);
  const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
  for (int fault : faults) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, saved);
}

} // namespace

extern "C" bs_cpu_team *bs_cpu_team_new(void) {
  bs_cpu_team *team = (bs_cpu_team *)lined_alloc(sizeof(bs_cpu_team));
  if (!team) return nullptr;
  memset(team, 0, sizeof *team);
  init(&team->start);
  init(&team->meeting);
  team->count = 1;
  disband(team);
  return team;
}

extern "C" int32_t bs_cpu_team_form(bs_cpu_team *team, int32_t count, int64_t cells) {
  if (count == team->count && (count == 1 || cells <= team->cells)) return 1;
  if (cells < team->cells) cells = team->cells;
  disband(team);
  if (count < 1 || count > BS_CPU_MAX_MEMBERS) return 0;
  sigset_t saved;
  block_signals(&saved);
  team->started = count_of(&team->start);
  team->member[0].count = count;
  while (team->count < count && enlist(team, count, cells)) {
  }
  pthread_sigmask(SIG_SETMASK, &saved, nullptr);
  team->cells = cells;
  if (team->count == count) return 1;
  disband(team);
  return 0;
}

extern "C" void bs_cpu_team_free(bs_cpu_team *team) {
  if (!team) return;
  disband(team);
  destroy(&team->start);
  destroy(&team->meeting);
  free(team);
}

extern "C" void bs_cpu_meet(const bs_cpu_member *member) {
  bs_cpu_team *team = member->team;
  uint32_t held = count_of(&team->meeting);
  if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) < member->count) return wait_past(&team->meeting, held);
  __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED); // nobody arrives again before the count advances
  advance(&team->meeting);
}

void bs_cpu_team_run(bs_cpu_team *team, bs_cpu_pass *pass) {
  if (team->count > 1) {
    team->pass = pass;
    advance(&team->start);
  }
  bs_cpu_walk(pass, &team->member[0]);
}
