/* step.h - a backward pass over a group of rows: the functions of step.c, inputs.c and weight_gradients.c that
 * schedule.c calls.
 *
 * It must not know: threads. */
#ifndef FRNN_BACKWARD_STEP_H
#define FRNN_BACKWARD_STEP_H

#include "../internal/sums.h"
#include "../forward/step.h"

/* The most groups of rows of a call, each with sums of its own. */
enum { GROUPS_MOST = 8 };

/* The other operand, beside the gate gradients, of a product over rows: x, or the operand of W_hh or of W_hr. */
enum operand { INPUT, HIDDEN, SCRATCH };

static inline enum operand operand_of(const frnn_block *hh) { return hh->operand == FRNN_SCRATCH ? SCRATCH : HIDDEN; }

/* The backward inputs, arrays of the user's that a chunk reads: x and h_{t-1}, which are operands, dy and h_t. */
enum backward_input { INPUT_X = INPUT, INPUT_H_BEFORE = HIDDEN, INPUT_DY, INPUT_H, BACKWARD_INPUTS };

/* The parameters' gradients. Each is a sum over rows. */
enum gradient { OF_W_IH, OF_W_HH, OF_W_HR, OF_B_IH, OF_B_HH, OF_EXTRA, GRADIENTS = OF_EXTRA + FRNN_EXTRAS };

typedef struct {
  size_t w_ih, w_hh, w_hr, parts;                                     /* of a call */
  size_t d_state, held_first, drh, rh, after_dropout, dg, operand[3]; /* of a group's part */
  size_t ids, sum[GRADIENTS], arrays[GRADIENTS]; /* likewise: its own sums; the arrays beside sums */
  size_t first, dx, zeros, d_first, d_lost, inputs[BACKWARD_INPUTS]; /* for ragged rows only */
  size_t packed, forward, tape;                                      /* for steps that are recomputed only */
  int64_t elements[GRADIENTS], beside[GRADIENTS];                    /* of a gradient, and of each array beside it */
  int64_t steps, rows, dg_row;                                       /* of a chunk, at most */
  int64_t group_batch;                                               /* rows of a group, at most */
  int groups, in_blocks;                                             /* 1 if sums go by blocks */
  size part, total;
} backward_layout;

backward_layout frnn_lay_backward(const frnn_shape *s);

/* NULL if the caller does not want it. */
static inline void *gradient_of(const frnn_backward_call *call, enum gradient which) {
  void *const named[] = {call->dw_ih, call->dw_hh, call->dw_hr, call->db_ih, call->db_hh};
  return which < OF_EXTRA ? named[which] : call->dextra[which - OF_EXTRA];
}

/* A group's part of a call, as a call of its own, and values that follow from it. */
typedef struct {
  const frnn_backward_call *call;
  const frnn_shape *shape;
  const frnn_kernels *kernels;
  const frnn_cell *cell;
  const frnn_cell_functions *functions;
  const backward_layout *layout;
  void *panels;       /* of the weights, which all groups read */
  int64_t full_batch; /* of the group's call */
  ptrdiff_t row;      /* bytes of a padded row of units */
  frnn_sequence tape, dg, rh, after_dropout;
  int64_t from, to, t0; /* the chunk */
  int64_t rows, done;   /* of the chunk, and of all chunks before it */
  /* If the call's tape has checkpoints alone: the call that recomputes the steps of a segment, the checkpoints, the
   * earliest time of the steps that the recomputed tape has now, and 1 if that tape must be recomputed for this
   * chunk. */
  frnn_forward_call recompute;
  frnn_sequence checkpoints;
  int64_t tape_t0;
  int stale;
} backward_pass;

/* The steps from the last checkpoint before the chunk to the chunk's end. */
static inline range steps_to_recompute(const backward_pass *w) {
  int64_t n = w->shape->checkpoint, from = (w->to - 1) / n * n;
  return (range){from, w->to - from};
}

static inline void *work_at(const backward_pass *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }
static inline void *panels_at(const backward_pass *w, size_t offset) { return at(w->panels, (ptrdiff_t)offset); }

/* A row of one of several arrays of padded rows, one for each state from `first_state` on. */
static inline void *state_row(const backward_pass *w, size_t offset, int state, int first_state, int64_t index) {
  return work_at(w, offset + (size_t)(((state - first_state) * w->layout->group_batch + index) * w->row));
}

/* The row of a state's gradient. */
static inline void *gradient_row(const backward_pass *w, int state, int64_t index) {
  return state_row(w, w->layout->d_state, state, FRNN_STATE_H, index);
}

/* The number of the chunk's rows that come before those of time t. */
static inline int64_t rows_before(const backward_pass *w, int64_t t) {
  const int64_t *first = work_at(w, w->layout->first);
  return w->shape->ragged ? first[t - w->t0] : (t - w->t0) * w->shape->batch;
}

/* A row of a user's array. */
static inline void *user_row(const backward_pass *w, frnn_sequence q, int64_t t, int64_t index) {
  return row_at(q, t, row_of(&w->call->rows, index));
}

/* A row of one of the library's arrays that have a row for each of the chunk. */
static inline void *chunk_row(const backward_pass *w, frnn_sequence q, int64_t t, int64_t index) {
  return at(q.data, (rows_before(w, t) + index) * q.row);
}

/* The first run of some sorted indices: neighbours whose states before step i are neighbours too. */
range frnn_run_of(const backward_pass *w, int64_t i, range rows);

/* A backward input for such a run: the user's rows, or a chunk's rows copied side by side in sorted order. */
frnn_sequence frnn_backward_input(const backward_pass *w, enum backward_input what, int64_t t, int64_t index);
void frnn_gather_inputs(const backward_pass *w, range rows);

/* A state before step i for such a run: from y, the tape, a checkpoint, the call's first state, or zeros. */
frnn_sequence frnn_state_before(const backward_pass *w, int state, int64_t i, int64_t index);

/* valid.c: 0, FRNN_INVALID or FRNN_MISSING. */
int frnn_backward_status(const frnn_backward_call *calls, int count);

/* Moves on to the next chunk of the backward pass, which is the one before in the order of the forward pass; 0 if there
 * is none. */
int frnn_next_chunk(backward_pass *w);

/* Packs a part of W_ih, W_hh and W_hr for the products with the gate gradients. */
void frnn_pack_transposed(const backward_pass *w, job_part mine);

/* frnn_begin_gradients reads the gradients of the last state, and clears the parameters' gradients that no chunk
 * overwrites. frnn_end_gradients writes those of the first state. */
void frnn_begin_gradients(const backward_pass *w);
void frnn_end_gradients(const backward_pass *w);

/* The phases of a chunk, those of all its steps one after another. A phase begins with the product that follows the
 * phase before, unless it is the first, and ends with the cell's derivative, unless it is the last. So a phase reads
 * all units that the phase before wrote, and nothing that another part writes at the same time. */
static inline int64_t phases_of_chunk(const backward_pass *w) {
  return (w->to - w->from) * phases_of(w->shape, w->cell->backward);
}

/* Phase k of the chunk, 0 to phases_of_chunk(w), for some rows and a part of the units. */
void frnn_run_phase(const backward_pass *w, int64_t k, range rows, job_part mine);

/* The column of the gradient of h, before it goes through W_hr: it comes after the gate gradients in their row. */
static inline int64_t column_of_h(const backward_pass *w) { return w->cell->columns * w->shape->hidden; }

/* Packs the operands' panels and computes dx, after the steps of a chunk, for some of its steps and rows. */
void frnn_finish_rows(const backward_pass *w, range steps, range rows);

/* Lists the ids of the chunk's rows in the order of the backward pass. The complement ~id marks the row that fills a
 * block of its id. */
void frnn_list_ids(const backward_pass *w);

/* Adds the chunk's rows to the parameters' gradients, for a part of the gates. */
void frnn_add_chunk(const backward_pass *w, job_part mine);

#endif
