/* step.h - a forward pass: the functions of step.c that schedule.c calls.
 *
 * It must not know: threads. */
#ifndef FRNN_FORWARD_STEP_H
#define FRNN_FORWARD_STEP_H

#include "packed.h"
#include "../internal/ragged.h"

/* A call and values that follow from it. */
typedef struct {
  const frnn_forward_call *call;
  const frnn_shape *shape;
  const frnn_cell *cell;
  const frnn_kernels *kernels;
  const frnn_products *products;
  const frnn_cell_functions *functions;
  const packed_header *packed;
  const forward_layout *layout;
  const frnn_shape *full; /* the call's full batch, for which the workspace was laid out */
  int in_tape;
  ptrdiff_t row;            /* bytes of a padded row of units */
  frnn_sequence tape, work; /* the arrays of z: the tape by time from t0 on, the workspace by time in the chunk */
  int64_t t0;
  frnn_sequence checkpoints; /* states other than h before every n-th step of the pass, by segment */
  int recompute;             /* y has been written already: the steps write the tape alone */
  int64_t begin, end;        /* steps of the pass */
  forward_layout own;        /* `layout` points here if the call has no plan; last, for begin_pass does not clear it, to
                                save time */
} forward_pass;

void frnn_begin_forward(forward_pass *w, const frnn_forward_call *call);

/* Begins a recompute of some steps, which writes the call's tape: that of these steps alone. `full` is the shape of
 * the full batch, for which the workspace was laid out. */
void frnn_begin_recompute(forward_pass *w, const frnn_forward_call *call, const frnn_shape *full,
                          frnn_sequence checkpoints, range steps);

/* Steps [from, to) of the pass that are projected together. */
typedef struct {
  int64_t from, to;
} chunk;

/* The chunk that begins with step `from`; empty at the end of the pass. */
static inline chunk chunk_of(const forward_pass *w, int64_t from) {
  return (chunk){from, from < w->end ? from + next_count(w->layout->steps, w->end - from) : from};
}

/* Prepare the state of some rows before the first step; write their state after the last one. */
void frnn_begin_rows(const forward_pass *w, range rows);
void frnn_end_rows(const forward_pass *w, range rows);

/* frnn_gather copies x of a chunk into sorted order, if that is not the user's order, or as operands. frnn_project then
 * computes bias + W_ih x for some rows and some of the gates' vectors, unless x enters in the step. */
void frnn_gather(const forward_pass *w, chunk c, range rows);
void frnn_project(const forward_pass *w, chunk c, range rows, range vectors);

/* A step, in this order: frnn_prepare_step sets the states and arguments that some rows begin with; for each phase
 * frnn_prepare_phase writes the operands that it reads, if its products read operands, and frnn_take_step runs it for
 * some of these rows and a part of the units; frnn_settle_step keeps the states of held rows, writes checkpoints and
 * copies h to y. */
void frnn_prepare_step(const forward_pass *w, int64_t i, range rows);
void frnn_prepare_phase(const forward_pass *w, int64_t i, frnn_phase phase, range rows);
void frnn_take_step(const forward_pass *w, chunk c, int64_t i, frnn_phase phase, range rows, job_part mine);
void frnn_settle_step(const forward_pass *w, int64_t i, range rows);

/* The arguments of a phase of a step, for rows that work in it, and some vectors of units. */
frnn_step frnn_step_of(const forward_pass *w, chunk c, int64_t i, frnn_phase phase, range rows, range vectors);

/* steps.c: 1 if the rows of a pass have nothing to prepare before a step and nothing to settle after it;
 * frnn_take_steps then takes some steps of a chunk, for all units. */
int frnn_is_steady(const forward_pass *w);
void frnn_take_steps(const forward_pass *w, chunk c, range steps, range rows);

/* The row of h_{t-1} after dropout of a sorted index. */
static inline void *frnn_after_dropout(const forward_pass *w, int64_t index) {
  return at(w->call->work, (ptrdiff_t)w->layout->after_dropout + index * w->row);
}

/* unfused.c: a phase of an unfused cell's step, for the step's rows; `index` is the sorted index of the first. */
void frnn_take_unfused_step(const forward_pass *w, const frnn_step *given, int64_t t, frnn_phase phase, int64_t index,
                            job_part mine);

/* widen.c: the call of a pass that widens its weights, as one at full precision; frnn_widen writes its packed weights.
 */
frnn_forward_call frnn_widened_call(const frnn_forward_call *narrow);
void frnn_widen(frnn_run *run, const frnn_forward_call *narrow, const frnn_forward_call *wide, int count);

/* schedule.c: frnn_run_passes takes all steps of some passes of one shape at once, frnn_run_rows those of some rows of
 * one pass on the calling thread alone. Both return early if the run is stopped. */
void frnn_run_passes(frnn_run *run, const forward_pass *passes, int count);
void frnn_run_rows(frnn_run *run, const forward_pass *w, range rows, int64_t steps_between);

#endif
