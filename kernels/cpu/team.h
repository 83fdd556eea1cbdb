/* team.h: teams of threads that run one list of calls together.
 *
 * Every member of a team walks the whole list, does its share of each call and meets the others behind it
 * (run.cpp). How a kernel shares its work is in share.h. The results have the same bits for any number of
 * members. */
#ifndef BROADSIDE_CPU_TEAM_H
#define BROADSIDE_CPU_TEAM_H

#include "broadside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A team belongs to the thread that runs its passes: only one call of these functions may be under way. */
typedef struct bs_cpu_team bs_cpu_team;

/* A thread's place in its team: what a CPU kernel's stream argument points to; NULL means alone. */
typedef struct bs_cpu_member {
  int32_t index, count; /* member 0 is the thread that runs the pass */
  bs_cpu_team *team;
  void *scratch;        /* of all members but 0: cells of its own, as many as a call has workspace */
} bs_cpu_member;

enum { BS_CPU_MAX_MEMBERS = 64 };

/* A team of one, which is the stream of bs_cpu_run; NULL if there is no memory. */
bs_cpu_team *bs_cpu_team_new(void);

/* Makes it a team of `count` members, between 1 and BS_CPU_MAX_MEMBERS, each with `cells` cells of scratch.
 * Starts and ends threads where the count changes. If the system refuses threads or memory the team is one
 * of one again, and the answer is false. */
int32_t bs_cpu_team_form(bs_cpu_team *team, int32_t count, int64_t cells);

/* Ends the team's threads and frees it. NULL is no team. */
void bs_cpu_team_free(bs_cpu_team *team);

/* Waits until all members of a pass have called it as often as this one. What they wrote before is then
 * visible to all. */
void bs_cpu_meet(const bs_cpu_member *member);

#ifdef __cplusplus
}

// A pass: a list of calls, as in bs_kernels.run, and how it went.
struct bs_cpu_pass {
  const bs_kernels *table;
  const bs_call *call;
  int32_t n;
  void *const *base;
  int32_t failed;   // the call that failed, n if none; members write and read it while others do
  bs_status status; // what it returned
};

// bs_cpu_walk does a member's share of a pass.
void bs_cpu_walk(bs_cpu_pass *pass, const bs_cpu_member *member);

// bs_cpu_team_run has all members walk the pass.
void bs_cpu_team_run(bs_cpu_team *team, bs_cpu_pass *pass);
#endif
#endif
