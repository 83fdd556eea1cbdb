//go:build mpi

/* wire.c: messages between ranks, polled, so that nobody waits longer than he wants to. */
#define _GNU_SOURCE
#include "wire.h"

#include <mpi.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { tag_notice = 9 };

static MPI_Comm group = MPI_COMM_NULL;
static int rank_, size_;
static volatile int interrupted;

static bs_notice *noticed, incoming;
static int gone;                                /* ranks that take part in no more */
static MPI_Request expected = MPI_REQUEST_NULL; /* the next notice */
static MPI_Request *told;                       /* our own, on their way: those of waiting, then the last one's */
static bs_notice ours[2];

struct bs_messages {
  int n, most;
  MPI_Request *request;
  MPI_Status *status;
  int *peer, *receives;
};

static int expect_notice(void) {
  return MPI_Irecv(&incoming, sizeof incoming, MPI_BYTE, MPI_ANY_SOURCE, tag_notice, group, &expected);
}

/* MPI's libraries take over the signals of crashes, which Go turns into panics. */
static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
enum { crash_count = sizeof crashes / sizeof *crashes };

static int initialize(void) {
  struct sigaction before[crash_count];
  for (int i = 0; i < crash_count; i++) sigaction(crashes[i], NULL, &before[i]);
  int level, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
  for (int i = 0; i < crash_count; i++) sigaction(crashes[i], &before[i], NULL);
  if (code == MPI_SUCCESS && level < MPI_THREAD_FUNNELED) code = MPI_ERR_UNSUPPORTED_OPERATION;
  return code;
}

static int count_hosts(int *hosts) {
  MPI_Comm host;
  int code, first, local;
  if ((code = MPI_Comm_split_type(group, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host))) return code;
  MPI_Comm_rank(host, &local);
  first = local == 0;
  if ((code = MPI_Allreduce(&first, hosts, 1, MPI_INT, MPI_SUM, group))) return code;
  return MPI_Comm_free(&host);
}

int bs_mpi_start(int *rank, int *size, int *hosts) {
  int code = initialize();
  if (code) return code;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if ((code = MPI_Comm_dup(MPI_COMM_WORLD, &group))) return code;
  MPI_Comm_set_errhandler(group, MPI_ERRORS_RETURN);
  if ((code = MPI_Comm_rank(group, &rank_)) || (code = MPI_Comm_size(group, &size_)) || (code = count_hosts(hosts))) return code;
  noticed = calloc((size_t)size_, sizeof *noticed);
  told = malloc(2 * (size_t)size_ * sizeof *told);
  if (!noticed || !told) return MPI_ERR_NO_MEM;
  for (int i = 0; i < 2 * size_; i++) told[i] = MPI_REQUEST_NULL;
  *rank = rank_;
  *size = size_;
  return size_ > 1 ? expect_notice() : MPI_SUCCESS;
}

int bs_mpi_finish(void) {
  if (expected != MPI_REQUEST_NULL) {
    MPI_Cancel(&expected);
    MPI_Wait(&expected, MPI_STATUS_IGNORE);
  }
  return MPI_Finalize();
}

void bs_mpi_abort(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

const char *bs_mpi_error(int code) {
  static char text[MPI_MAX_ERROR_STRING + 1];
  int length;
  if (MPI_Error_string(code, text, &length)) return "unknown error of MPI";
  return text;
}

void bs_mpi_interrupt(void) { interrupted = 1; }

bs_messages *bs_messages_new(int most) {
  bs_messages *m = calloc(1, sizeof *m);
  if (!m) return NULL;
  m->most = most;
  m->request = malloc((size_t)most * sizeof *m->request);
  m->status = malloc((size_t)most * sizeof *m->status);
  m->peer = malloc((size_t)most * sizeof *m->peer);
  m->receives = malloc((size_t)most * sizeof *m->receives);
  return m->request && m->status && m->peer && m->receives ? m : NULL;
}

static int add(bs_messages *m, int peer, int receives) {
  m->peer[m->n] = peer;
  m->receives[m->n++] = receives;
  return MPI_SUCCESS;
}

int bs_send(bs_messages *m, const float *from, int n, int peer, int tag) {
  if (m->n == m->most) return MPI_ERR_INTERN;
  int code = MPI_Isend(from, n, MPI_FLOAT, peer, tag, group, &m->request[m->n]);
  return code ? code : add(m, peer, 0);
}

int bs_receive(bs_messages *m, float *to, int n, int peer, int tag) {
  if (m->n == m->most) return MPI_ERR_INTERN;
  int code = MPI_Irecv(to, n, MPI_FLOAT, peer, tag, group, &m->request[m->n]);
  return code ? code : add(m, peer, 1);
}

/* look notes a notice that has come. */
static int look(int *came) {
  MPI_Status status;
  *came = 0;
  if (expected == MPI_REQUEST_NULL) return MPI_SUCCESS;
  int code = MPI_Test(&expected, came, &status);
  if (code || !*came) return code;
  noticed[status.MPI_SOURCE] = incoming;
  gone += incoming.reason >= BS_LEFT;
  return gone < size_ - 1 ? expect_notice() : MPI_SUCCESS;
}

void bs_mpi_progress(void) {
  int came;
  look(&came); /* an error will show in the next collective */
}

/* rest lets others have the core: at once at first, and longer the longer nothing has come. */
static void rest(unsigned turn) {
  if (turn < 2000) {
    sched_yield();
    return;
  }
  struct timespec t = {0, turn < 4000 ? 20000 : 200000};
  nanosleep(&t, NULL);
}

static int first_error(int code, const MPI_Status *status, int n) {
  if (code != MPI_ERR_IN_STATUS) return code;
  for (int i = 0; i < n; i++)
    if (status[i].MPI_ERROR != MPI_SUCCESS && status[i].MPI_ERROR != MPI_ERR_PENDING) return status[i].MPI_ERROR;
  return code;
}

int bs_wait(bs_messages *m, double seconds, int *code) {
  double until = MPI_Wtime() + seconds;
  for (unsigned turn = 0;; turn++) {
    int done = 0, came = 0;
    if ((*code = MPI_Testall(m->n, m->request, &done, m->status))) {
      *code = first_error(*code, m->status, m->n);
      return -1;
    }
    if (done) {
      m->n = 0;
      return BS_ARRIVED;
    }
    if ((*code = look(&came))) return -1;
    if (came) return BS_NOTICE;
    if (interrupted) return BS_INTERRUPTED;
    if (MPI_Wtime() >= until) return BS_LATE;
    rest(turn);
  }
}

static int collect(bs_messages *m, int *peer, int receives) {
  int n = 0;
  for (int i = 0; i < m->n; i++) {
    int done = 0;
    if (m->receives[i] != receives || MPI_Request_get_status(m->request[i], &done, MPI_STATUS_IGNORE) || done) continue;
    int known = 0;
    for (int j = 0; j < n; j++) known |= peer[j] == m->peer[i];
    if (!known) peer[n++] = m->peer[i];
  }
  return n;
}

int bs_missing(bs_messages *m, int *peer) {
  int n = collect(m, peer, 1);
  return n ? n : collect(m, peer, 0);
}

int bs_notify(bs_notice notice, double seconds) {
  int last = notice.reason >= BS_LEFT, done = 0;
  MPI_Request *request = told + last * size_;
  int code = MPI_Testall(size_, request, &done, MPI_STATUSES_IGNORE);
  if (code || !done) return code;
  ours[last] = notice;
  for (int peer = 0; peer < size_; peer++)
    if (peer != rank_ && (code = MPI_Isend(&ours[last], sizeof notice, MPI_BYTE, peer, tag_notice, group, &request[peer]))) return code;
  for (double until = MPI_Wtime() + seconds;;) {
    code = MPI_Testall(size_, request, &done, MPI_STATUSES_IGNORE);
    if (code || done || MPI_Wtime() >= until) return code;
    sched_yield();
  }
}

bs_notice bs_noticed(int peer) { return noticed[peer]; }

int bs_wait_notices(double seconds, int *code) {
  double until = MPI_Wtime() + seconds;
  for (unsigned turn = 0; gone < size_ - 1; turn++) {
    int came;
    if ((*code = look(&came))) return -1;
    if (came) continue;
    if (interrupted) return BS_INTERRUPTED;
    if (MPI_Wtime() >= until) return BS_LATE;
    rest(turn);
  }
  return BS_ARRIVED;
}
