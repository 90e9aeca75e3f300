/* valid.h - whether a shape and the arrays of a call can be right, as far as a few comparisons tell.
 *
 * It must not know: packed weights, layouts of buffers, arithmetic. */
#ifndef FRNN_VALID_H
#define FRNN_VALID_H

#include "internal.h"

/* 0, or FRNN_INVALID. Kernels are not asked for: a forward pass takes those that packed its weights. */
static inline int shape_is_invalid(const frnn_shape *s) {
  if (!s || !s->cell || (unsigned)s->dtype >= FRNN_DTYPES || (unsigned)s->precision >= FRNN_PRECISIONS)
    return FRNN_INVALID;
  if ((s->steps | s->batch | s->input | s->hidden | s->projected | s->checkpoint) < 0) return FRNN_INVALID;
  if (s->precision != FRNN_FULL && s->dtype != FRNN_F32) return FRNN_INVALID;
  return s->projected && !(s->cell->facts.takes >> FRNN_PROJ_SIZE & 1) ? FRNN_INVALID : 0;
}

/* 0, FRNN_INVALID or FRNN_MISSING. */
static inline int shape_status(const frnn_shape *s) {
  int status = shape_is_invalid(s);
  return status || frnn_kernels_for(s->dtype) ? status : FRNN_MISSING;
}

/* 1 if two calls may run at once. */
static inline int are_alike(const frnn_shape *a, const frnn_shape *b) {
  return a->cell == b->cell && a->dtype == b->dtype && a->steps == b->steps && a->batch == b->batch &&
         a->input == b->input && a->hidden == b->hidden && a->ragged == b->ragged && a->has_ids == b->has_ids &&
         a->projected == b->projected && a->checkpoint == b->checkpoint && a->precision == b->precision;
}

/* 1 if weights, or arrays of so many rows, have more elements than any memory: then the arithmetic with their sizes
 * could overflow. The library has less than 2^12 bytes for each. has_x: there is an array of rows with `input`. */
static inline int is_too_large(const frnn_shape *s, double rows, int has_x) {
  double units = 64 + (double)s->hidden + (double)s->projected, features = units + (double)s->input;
  return features * units > 0x1p48 || (has_x ? features : units) * rows > 0x1p48;
}

/* The rows of a pass and of its states. */
static inline double rows_of_pass(const frnn_shape *s) { return (1 + (double)s->steps) * (double)s->batch; }

static inline int is_buffer(const void *p) { return p && ((uintptr_t)p & (FRNN_ALIGN - 1)) == 0; }

/* 1 if the address is a multiple of an element's size. */
static inline int has_place(const frnn_shape *s, uintptr_t address) {
  return (address & (uintptr_t)(s->dtype == FRNN_F32 ? 3 : 7)) == 0;
}

/* 1 if all addresses of elements are. Arrays without elements may be anywhere. */
static inline int is_aligned(const frnn_shape *s, const frnn_sequence *a) {
  if (s->steps == 0 || s->hidden == 0 || s->input == 0) return 1;
  uintptr_t step = s->steps > 1 ? (uintptr_t)a->step : 0, row = s->batch > 1 ? (uintptr_t)a->row : 0;
  return !a->data || has_place(s, (uintptr_t)a->data | step | row);
}

static inline int are_aligned(const frnn_shape *s, const frnn_state *state) {
  uintptr_t addresses = 0;
  for (int i = 0; i < s->cell->facts.states; i++) addresses |= (uintptr_t)state->of[i];
  return s->hidden == 0 || has_place(s, addresses);
}

static inline int has_states(const frnn_shape *s, const frnn_state *state) {
  for (int i = 0; i < s->cell->facts.states && s->hidden > 0; i++)
    if (!state->of[i]) return 0;
  return are_aligned(s, state);
}

/* 1 if there are the matrices that the shape has. */
static inline int has_weights(const frnn_shape *s, const frnn_weights *w, int w_ih) {
  if (s->hidden == 0) return 1;
  return (w->w_ih || !w_ih) && (w->w_hh || s->cell->facts.recurrent == 0) && (w->w_hr || s->projected == 0);
}

/* 1 if the cell takes all options that are set. A caller's own cell reads what it likes. */
static inline int takes_options(const frnn_cell *cell, const frnn_variant *v, const frnn_dropout_masks *dropout) {
  unsigned set = dropout->recurrent ? 1u << FRNN_RECURRENT_DROPOUT : 0;
  int extras = 1;
  for (int i = 0; i < FRNN_OPTIONS; i++) set |= v->number[i] != 0 ? 1u << i : 0;
  for (int i = 0; i < FRNN_STATES_MOST; i++) set |= v->zoneout[i] != 0 || dropout->zoneout[i] ? 1u << FRNN_ZONEOUT : 0;
  for (int i = 0; i < FRNN_EXTRAS; i++) extras &= !v->extra[i] || cell->facts.extra[i] > 0;
  return cell->own || (extras && (set & ~cell->facts.takes) == 0);
}

/* 1 if there are the gains that a normalised variant needs. */
static inline int has_gains(const frnn_shape *s, const frnn_variant *v) {
  const frnn_cell *cell = s->cell;
  if (!cell->normalised || s->hidden == 0) return 1;
  return v->extra[FRNN_WEIGHT_LN_IH] && v->extra[FRNN_WEIGHT_LN_HH] &&
         (v->extra[FRNN_WEIGHT_LN_C] || cell->facts.extra[FRNN_WEIGHT_LN_C] == 0);
}

/* 1 if there are an x, or ids, and an aux if the cell reads one. */
static inline int has_inputs(const frnn_shape *s, const frnn_ids *ids, const frnn_sequence *x,
                             const frnn_sequence *aux) {
  if (s->has_ids && s->input > 0) return 0;
  if (s->steps == 0) return 1;
  if (s->cell->facts.aux && !aux->data) return 0;
  return s->has_ids ? ids->numbers != NULL : x->data || s->input == 0;
}

#endif
