/* step.h - a group of rows on their way backward through time: what schedule.c, which divides the work, asks of
 * step.c, inputs.c and weight_gradients.c, which do it.
 *
 * It must not know: threads. */
#ifndef FRNN_BACKWARD_STEP_H
#define FRNN_BACKWARD_STEP_H

#include "../internal/sums.h"
#include "../forward/step.h"

/* Groups of rows of a call that may have sums of their own. */
enum { GROUPS_MOST = 4 };

/* What stands beside the gate gradients in a product over rows: x, and the operands of W_hh and of W_hr. */
enum operand { INPUT, HIDDEN, SCRATCH };

static inline enum operand operand_of(const frnn_block *hh) { return hh->operand == FRNN_SCRATCH ? SCRATCH : HIDDEN; }

/* What of the user's a chunk reads: x and h_{t-1}, as the operands, and dy and h_t. */
enum backward_input { INPUT_X = INPUT, INPUT_H_BEFORE = HIDDEN, INPUT_DY, INPUT_H, BACKWARD_INPUTS };

/* The parameters' gradients, which are sums over rows, all of them. */
enum gradient { OF_W_IH, OF_W_HH, OF_W_HR, OF_B_IH, OF_B_HH, OF_EXTRA, GRADIENTS = OF_EXTRA + FRNN_EXTRAS };

typedef struct {
  size_t w_ih, w_hh, w_hr, parts;                                     /* of a call */
  size_t d_state, held_first, drh, rh, after_dropout, dg, operand[3]; /* of a group's part */
  size_t ids, sum[GRADIENTS], arrays[GRADIENTS]; /* likewise: sums of its own; what stands beside sums */
  size_t first, dx, zeros, d_first, d_lost, inputs[BACKWARD_INPUTS]; /* and what is only there for ragged rows */
  size_t packed, forward, tape;                                      /* or for steps that are recomputed */
  int64_t elements[GRADIENTS], beside[GRADIENTS];                    /* of a gradient, and beside it */
  int64_t steps, rows, dg_row;                                       /* of a chunk, at most */
  int64_t group_batch;                                               /* rows of a group, at most */
  int groups, in_blocks;                                             /* whether sums go by blocks */
  size part, total;
} backward_layout;

backward_layout frnn_lay_backward(const frnn_shape *s);

/* NULL where nobody wants it. */
static inline void *gradient_of(const frnn_backward_call *call, enum gradient which) {
  void *const named[] = {call->dw_ih, call->dw_hh, call->dw_hr, call->db_ih, call->db_hh};
  return which < OF_EXTRA ? named[which] : call->dextra[which - OF_EXTRA];
}

/* A group's part of a call, as a call of its own, and what follows from it. */
typedef struct {
  const frnn_backward_call *call;
  const frnn_shape *shape;
  const frnn_kernels *kernels;
  const frnn_cell *cell;
  const frnn_cell_functions *functions;
  const backward_layout *layout;
  void *panels;       /* of the weights, which all groups read */
  int64_t full_batch; /* of the call that the group is of */
  ptrdiff_t row;      /* a padded row of units */
  frnn_sequence tape, dg, rh, after_dropout;
  int64_t from, to, t0; /* the chunk */
  int64_t rows, done;   /* that it has, and that those before it had */
  /* Where the call's tape has checkpoints alone: the call that recomputes the steps from one to the next, the states of
   * those, the earliest time of the steps that the tape has now, and whether it is to be made for the chunk. */
  frnn_forward_call recompute;
  frnn_sequence checkpoints;
  int64_t tape_t0;
  int stale;
} backward_pass;

/* The steps from the checkpoint before the chunk on, to its end. */
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

/* The gradient of a state, of a row. */
static inline void *gradient_row(const backward_pass *w, int state, int64_t index) {
  return state_row(w, w->layout->d_state, state, FRNN_STATE_H, index);
}

/* The rows of the chunk that stand before those of time t. */
static inline int64_t rows_before(const backward_pass *w, int64_t t) {
  const int64_t *first = work_at(w, w->layout->first);
  return w->shape->ragged ? first[t - w->t0] : (t - w->t0) * w->shape->batch;
}

/* A row of the user's. */
static inline void *user_row(const backward_pass *w, frnn_sequence q, int64_t t, int64_t index) {
  return row_at(q, t, row_of(&w->call->rows, index));
}

/* What the library keeps of a row of the chunk. */
static inline void *chunk_row(const backward_pass *w, frnn_sequence q, int64_t t, int64_t index) {
  return at(q.data, (rows_before(w, t) + index) * q.row);
}

/* The first of some sorted indices, neighbours whose states before step i are neighbours too. */
range frnn_run_of(const backward_pass *w, int64_t i, range rows);

/* An input for such a run: where the user has it, or where a chunk's rows were copied side by side in sorted order. */
frnn_sequence frnn_backward_input(const backward_pass *w, enum backward_input what, int64_t t, int64_t index);
void frnn_gather_inputs(const backward_pass *w, range rows);

/* A state before step i for such a run: h, or another, which the tape tells. */
frnn_sequence frnn_state_before(const backward_pass *w, int state, int64_t i, int64_t index);

/* The chunk before the present one in the data, which is the next one of the backward pass; 0 where there is none. */
int frnn_next_chunk(backward_pass *w);

/* A part of the panels of W_ih and W_hh, which products with the gate gradients read. */
void frnn_pack_transposed(const backward_pass *w, job_part mine);

/* The gradients of the last state come in; those of the parameters are zero where no chunk begins their sum. */
void frnn_begin_gradients(const backward_pass *w);
void frnn_end_gradients(const backward_pass *w);

/* The phases of a chunk, those of all its steps one after another. Phase k begins with the product that follows phase
 * k - 1, unless it is the first, and ends with the cell's derivative, unless it is the last. So what a phase does for
 * some units needs all units of the phase before, and no other. */
static inline int64_t phases_of_chunk(const backward_pass *w) { return (w->to - w->from) * back_phases_of(w->shape); }

/* Phase k of the chunk, 0 to phases_of_chunk(w), for some rows and a part of the units. */
void frnn_run_phase(const backward_pass *w, int64_t k, range rows, job_part mine);

/* Where the gradient of h, before it goes through W_hr, stands in a row of gate gradients: after them. */
static inline int64_t column_of_h(const backward_pass *w) { return w->cell->columns * w->shape->hidden; }

/* After the steps of a chunk, for some of its steps and rows: the operands' panels, and dx. */
void frnn_finish_rows(const backward_pass *w, range steps, range rows);

/* The ids of the chunk's rows in the order of the backward pass, complements where they end a block of their id's. */
void frnn_list_ids(const backward_pass *w);

/* A part of what the chunk adds to the parameters' gradients, by gates. */
void frnn_add_chunk(const backward_pass *w, job_part mine);

#endif
