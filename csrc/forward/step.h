/* step.h - a call on its way forward through time: what schedule.c, which divides the work, asks of step.c, which
 * does it.
 *
 * It must not know: threads. */
#ifndef FRNN_FORWARD_STEP_H
#define FRNN_FORWARD_STEP_H

#include "packed.h"
#include "../internal/ragged.h"

/* A call and what follows from it. */
typedef struct {
  const frnn_forward_call *call;
  const frnn_shape *shape;
  const frnn_cell *cell;
  const frnn_kernels *kernels;
  const frnn_cell_functions *functions;
  const packed_header *packed;
  const forward_layout *layout;
  const frnn_shape *full; /* the call's full batch, for which the workspace was laid out */
  int in_tape;
  ptrdiff_t row;            /* a padded row of units */
  frnn_sequence tape, work; /* where z stands: by time from t0 on, or by time in the chunk */
  int64_t t0;
  frnn_sequence checkpoints; /* states but h before every n-th step of the pass, by n-th steps */
  int recompute;             /* y is there already: steps go to the tape alone */
  int64_t begin, end;        /* steps of the pass */
  forward_layout own;        /* `layout`, where the call has no plan; last, for a short step would feel its zeros */
} forward_pass;

void frnn_begin_forward(forward_pass *w, const frnn_forward_call *call);

/* Some steps once more, for the tape that the call has: that of these steps. `whole` as above. */
void frnn_begin_recompute(forward_pass *w, const frnn_forward_call *call, const frnn_shape *whole,
                          frnn_sequence checkpoints, range steps);

/* Steps [from, to) of the pass that are projected together. */
typedef struct {
  int64_t from, to;
} chunk;

/* The one that begins with step `from`; empty where the pass ends there. */
static inline chunk chunk_of(const forward_pass *w, int64_t from) {
  return (chunk){from, from < w->end ? from + next_count(w->layout->steps, w->end - from) : from};
}

/* For some rows: their state before the first step; after the last. */
void frnn_begin_rows(const forward_pass *w, range rows);
void frnn_end_rows(const forward_pass *w, range rows);

/* x of a chunk where the kernels can read it; then bias + W_ih x for some rows and some of the gates' vectors, unless
 * x enters in the step. */
void frnn_gather(const forward_pass *w, chunk c, range rows);
void frnn_project(const forward_pass *w, chunk c, range rows, range vectors);

/* A step: what it begins with, for some rows; its phases, for some of these rows and a part of the units; and what
 * becomes of its outputs. */
void frnn_prepare_step(const forward_pass *w, int64_t i, range rows);
void frnn_take_step(const forward_pass *w, chunk c, int64_t i, int phase, range rows, job_part mine);
void frnn_settle_step(const forward_pass *w, int64_t i, range rows);

/* h before a step after dropout, of a sorted index. */
static inline void *frnn_after_dropout(const forward_pass *w, int64_t index) {
  return at(w->call->work, (ptrdiff_t)w->layout->after_dropout + index * w->row);
}

/* unfused.c: a phase of an unfused cell's step, for the rows from a sorted index on that the step has. */
void frnn_take_unfused_step(const forward_pass *w, frnn_step *step, int64_t t, int phase, int64_t index, job_part mine);

/* schedule.c: all steps of some passes of one shape, at once; the same for some rows of one pass, by the calling thread
 * alone. Both return early if the run is stopped. */
void frnn_run_passes(frnn_run *run, const forward_pass *passes, int count);
void frnn_run_rows(frnn_run *run, const forward_pass *w, range rows, int64_t steps_between);

#endif
