/* inputs.c - the arrays that a backward pass reads: x, y, the states before its steps, dy.
 *
 * They are read in place, from the user's arrays or the tape. If sorted order is not the user's order, a chunk's rows
 * are first copied side by side.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

range frnn_run_of(const backward_pass *w, int64_t i, range rows) {
  if (!w->shape->ragged) return rows;
  int64_t begins = next_beginning(w->shape, &w->call->rows, i, rows.begin, rows);
  return (range){rows.begin, begins < 0 ? rows.count : most(1, begins - rows.begin)};
}

/* h_{t-1} for step i and a run of rows: y of the step before, zeros, or the call's first state. */
static frnn_sequence h_before(const backward_pass *w, int64_t i, int64_t index) {
  const frnn_rows *r = &w->call->rows;
  ptrdiff_t row = features_of(w->shape) * w->kernels->size;
  if (goes_on(w->shape, r, i, index))
    return (frnn_sequence){user_row(w, w->call->y, time_of(w->shape, i - 1), index), 0, w->call->y.row};
  if (begins_at_zero(w->shape, r, i, index)) return (frnn_sequence){work_at(w, w->layout->zeros), 0, 0};
  return (frnn_sequence){at(w->call->first.of[FRNN_STATE_H], row_of(r, index) * row), 0, row};
}

/* The user's array that has this input. */
static frnn_sequence users(const backward_pass *w, enum backward_input what) {
  return what == INPUT_X ? w->call->x : what == INPUT_DY ? w->call->dy : w->call->y;
}

/* Bytes of a row of this input; 0 if nothing reads it. */
static ptrdiff_t bytes_of_input(const backward_pass *w, enum backward_input what) {
  ptrdiff_t h = features_of(w->shape) * w->kernels->size;
  if (what == INPUT_X) return w->call->dw_ih ? w->shape->input * w->kernels->size : 0;
  if (what == INPUT_DY) return w->call->dy.data ? h : 0;
  return what == INPUT_H && w->cell->slots > 0 && !w->cell->own ? 0 : h; /* the library's cells read it from the tape */
}

static frnn_sequence gathered(const backward_pass *w, enum backward_input what) {
  return (frnn_sequence){work_at(w, w->layout->inputs[what]), 0, bytes_of_input(w, what)};
}

frnn_sequence frnn_backward_input(const backward_pass *w, enum backward_input what, int64_t t, int64_t index) {
  frnn_sequence there = gathered(w, what), q = users(w, what);
  if (w->call->rows.sort_order && there.row > 0) return (frnn_sequence){chunk_row(w, there, t, index), 0, there.row};
  if (what == INPUT_H_BEFORE) return h_before(w, time_of(w->shape, t), index);
  return (frnn_sequence){q.data ? user_row(w, q, t, index) : NULL, 0, q.row};
}

/* The user's rows are prefetched some rows before they are copied. They lie anywhere in memory, and if a group has few
 * rows among many the processor predicts none. */
enum { AHEAD = 10, LINE = 64, ASKED_FOR = 512 };

/* Copies the rows of one step. If all rows go on from the step before, h_{t-1} is the y of that step. */
static void gather_step(const backward_pass *w, enum backward_input what, int64_t t, range rows) {
  const frnn_rows *r = &w->call->rows;
  int64_t i = time_of(w->shape, t);
  frnn_sequence from = users(w, what), to = gathered(w, what);
  int one_by_one = what == INPUT_H_BEFORE && next_beginning(w->shape, r, i, rows.begin, rows) >= 0;
  from.data = row_at(from, what == INPUT_H_BEFORE && !one_by_one ? time_of(w->shape, i - 1) : t, 0);
  to.data = chunk_row(w, to, t, 0);
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++) {
    const char *ahead = row_at(from, 0, r->sort_order[least(p + AHEAD, rows.begin + rows.count - 1)]);
    for (ptrdiff_t k = 0; k < to.row && k < ASKED_FOR; k += LINE) __builtin_prefetch(ahead + k);
    copy_row(row_at(to, 0, p), one_by_one ? h_before(w, i, p).data : row_at(from, 0, r->sort_order[p]), (size_t)to.row);
  }
}

void frnn_gather_inputs(const backward_pass *w, range rows) {
  if (!w->call->rows.sort_order) return;
  for (int what = 0; what < BACKWARD_INPUTS; what++)
    for (int64_t t = w->t0; bytes_of_input(w, what) > 0 && t < w->t0 + w->to - w->from; t++)
      gather_step(w, what, t, working_of(w->shape, &w->call->rows, rows, t));
}

frnn_sequence frnn_state_before(const backward_pass *w, int state, int64_t i, int64_t index) {
  const frnn_rows *r = &w->call->rows;
  int64_t n = w->shape->checkpoint, t = time_of(w->shape, i - 1) - w->tape_t0;
  if (state == FRNN_STATE_H) return frnn_backward_input(w, INPUT_H_BEFORE, time_of(w->shape, i), index);
  if (goes_on(w->shape, r, i, index)) {
    if (n && i % n == 0)
      return (frnn_sequence){at(row_at(w->checkpoints, i / n, index), (state - 1) * w->row), 0, w->checkpoints.row};
    return (frnn_sequence){at(row_at(w->tape, t, index), (w->cell->slots + state - 1) * w->row), 0, w->tape.row};
  }
  if (begins_at_zero(w->shape, r, i, index)) return (frnn_sequence){work_at(w, w->layout->zeros), 0, 0};
  return (frnn_sequence){state_row(w, w->layout->held_first, state, 1, index), 0, w->row};
}
