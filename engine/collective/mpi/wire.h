/* wire.h: what this package asks of MPI. One thread calls all of it, but for bs_mpi_interrupt. */
#ifndef BROADSIDE_MPI_WIRE_H
#define BROADSIDE_MPI_WIRE_H

#include <stdint.h>

/* Joins. Returns an error of MPI, 0 for none; so do all functions with no other word on it. */
int bs_mpi_start(int *rank, int *size, int *hosts);
/* Leaves for good. It waits for the other processes to do the same. */
int bs_mpi_finish(void);
/* Ends all processes. */
void bs_mpi_abort(int status);
/* What MPI calls an error. The text is that of the last call. */
const char *bs_mpi_error(int code);

/* bs_messages are messages on their way. */
typedef struct bs_messages bs_messages;
bs_messages *bs_messages_new(int most); /* NULL: out of memory */
int bs_send(bs_messages *m, const float *from, int n, int peer, int tag);
int bs_receive(bs_messages *m, float *to, int n, int peer, int tag);

/* Waits until all messages have arrived. Returns BS_ARRIVED, or what came before that, or -1 and an error in *code. */
enum { BS_ARRIVED, BS_LATE, BS_NOTICE, BS_INTERRUPTED };
int bs_wait(bs_messages *m, double seconds, int *code);
/* The peers whose messages have not arrived, in peer; those who have not taken ours, if only these are left. */
int bs_missing(bs_messages *m, int *peer);

/* Lets MPI finish what it has buffered of messages that have been sent. Nothing does so between calls of MPI. */
void bs_mpi_progress(void);

/* A notice tells the others that this rank has taken part in so many collectives and waits in the next (reason
 * BS_WAITING), or that it takes part in no more: because it leaves (BS_LEFT), or because it failed, waiting for rank
 * `culprit`, -1 if for none (BS_FAILED). */
enum { BS_PRESENT, BS_WAITING, BS_LEFT, BS_FAILED };
typedef struct bs_notice {
  int64_t collectives;
  int32_t reason, culprit;
} bs_notice;
/* Sends a notice, and waits so long for the others to take it. It may be in vain: while one is on its way there is
 * no room for another. */
int bs_notify(bs_notice notice, double seconds);
/* What rank `peer` said last; reason BS_PRESENT if nothing. */
bs_notice bs_noticed(int peer);
/* Waits until every other rank has said that it takes part in no more. Returns what bs_wait does. */
int bs_wait_notices(double seconds, int *code);

/* Ends a wait that is under way, and all later ones. Any thread may call it. */
void bs_mpi_interrupt(void);

/* out = the sum of `count` summands, a power of two, added in the order of the tree; the summands are overwritten, and
 * out may be one of them. With flush, numbers below 2^-126 are zero, as in the kernels for CPUs. */
void bs_tree_sum(float *out, float **summand, int count, long n, int flush);

#endif
