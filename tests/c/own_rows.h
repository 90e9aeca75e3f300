/* own_rows.h - a batch row of a step, in either dtype, for cells that compute unit by unit.
 *
 * It must not know: cells, calls. */
#include "internal/internal.h"

enum { SLOTS_MOST = 5, COLUMNS_MOST = 7 };

/* Numbers of a batch row side by side; p is NULL if there are none. */
typedef struct {
  char *p;
  int dtype;
} values;

static values values_from(int dtype, const void *p, ptrdiff_t bytes) {
  return (values){p ? (char *)(uintptr_t)p + bytes : NULL, dtype};
}

static double get(values v, int64_t i) { return v.dtype == FRNN_F32 ? ((float *)v.p)[i] : ((double *)v.p)[i]; }

static void put(values v, int64_t i, double value) {
  if (v.dtype == FRNN_F32)
    ((float *)v.p)[i] = (float)value;
  else
    ((double *)v.p)[i] = value;
}

/* 1 if the zoneout mask keeps the old value of element i. */
static int stays(values mask, int64_t i) { return mask.p && get(mask, i) != 0; }

/* ---- forward -------------------------------------------------------------------------------------------------- */

typedef struct {
  values z[SLOTS_MOST], before[FRNN_STATES_MOST], after[FRNN_STATES_MOST], zoneout[FRNN_STATES_MOST], aux, scratch;
} step_row;

static step_row step_row_of(const frnn_cell *cell, int dtype, const frnn_step *s, int64_t m) {
  step_row r = {.aux = values_from(dtype, s->aux, m * s->aux_row),
                .scratch = values_from(dtype, s->scratch, m * s->gate)};
  for (int k = 0; k < cell->slots; k++) r.z[k] = values_from(dtype, s->z, m * s->z_row + k * s->gate);
  for (int k = 0; k < cell->facts.states; k++) {
    r.before[k] = values_from(dtype, s->state[k].before, m * s->state[k].before_row);
    r.after[k] = values_from(dtype, s->state[k].after, m * s->state[k].after_row);
    r.zoneout[k] = values_from(dtype, s->variant->zoneout[k], m * s->variant->zoneout_row);
  }
  return r;
}

static void step_units(const frnn_cell *cell, int dtype, const frnn_step *s, void (*unit)(const step_row *, int64_t)) {
  for (int64_t m = 0; m < s->m; m++) {
    step_row r = step_row_of(cell, dtype, s, m);
    for (int64_t j = 0; j < s->hidden; j++) unit(&r, j);
  }
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

typedef struct {
  values z[SLOTS_MOST], before[FRNN_STATES_MOST], after[FRNN_STATES_MOST], d[FRNN_STATES_MOST], shown[FRNN_STATES_MOST];
  values zoneout[FRNN_STATES_MOST], dy, dg[COLUMNS_MOST], aux, daux, scratch, drh, dropout, after_dropout;
} back_row;

static back_row back_row_of(const frnn_cell *cell, int dtype, const frnn_back *b, int64_t m) {
  ptrdiff_t column = b->hidden * (dtype == FRNN_F32 ? 4 : 8);
  back_row r = {.dy = values_from(dtype, b->dy, m * b->dy_row),
                .aux = values_from(dtype, b->aux, m * b->aux_row),
                .daux = values_from(dtype, b->daux, m * b->daux_row),
                .scratch = values_from(dtype, b->scratch, m * b->scratch_row),
                .drh = values_from(dtype, b->drh, m * b->d_row),
                .dropout = values_from(dtype, b->dropout_factors, m * b->dropout_factors_row)};
  r.after_dropout = values_from(dtype, b->variant->after_dropout, m * b->variant->after_dropout_row);
  for (int k = 0; k < cell->slots; k++) r.z[k] = values_from(dtype, b->z, m * b->z_row + k * b->gate);
  for (int k = 0; k < cell->columns; k++) r.dg[k] = values_from(dtype, b->dg, m * b->dg_row + k * column);
  for (int k = 0; k < cell->facts.states; k++) {
    const frnn_back_state *q = &b->state[k];
    r.before[k] = values_from(dtype, q->before, m * q->before_row);
    r.after[k] = values_from(dtype, q->after, m * q->after_row);
    r.d[k] = values_from(dtype, q->d, m * b->d_row);
    r.shown[k] = values_from(dtype, q->shown, m * q->shown_row);
    r.zoneout[k] = values_from(dtype, b->variant->zoneout[k], m * b->variant->zoneout_row);
  }
  return r;
}

static void back_units(const frnn_cell *cell, int dtype, const frnn_back *b, void (*unit)(const back_row *, int64_t)) {
  for (int64_t m = 0; m < b->m; m++) {
    back_row r = back_row_of(cell, dtype, b, m);
    for (int64_t j = b->unit; j < b->end; j++) unit(&r, j);
  }
}

/* The gradient of each number of aux: the sum over all units of a column, from `column` on. It is added to daux, which
 * must be zero: so the result is wrong if more than one part adds it. */
static void sum_to_aux(const frnn_cell *cell, int dtype, const frnn_back *b, int column) {
  for (int64_t m = 0; b->daux && m < b->m; m++) {
    back_row r = back_row_of(cell, dtype, b, m);
    for (int i = 0; i < cell->facts.aux; i++) {
      double sum = 0;
      for (int64_t j = 0; j < b->hidden; j++) sum += get(r.dg[column + i], j);
      put(r.daux, i, get(r.daux, i) + sum);
    }
  }
}

/* The gradient of h of unit j, dy included. */
static double gradient_of_h(const back_row *r, int64_t j) {
  return get(r->d[FRNN_STATE_H], j) + (r->dy.p ? get(r->dy, j) : 0);
}

/* Writes the gradient of another state after the step to the caller's dstate, if wanted. */
static void show(const back_row *r, int state, int64_t j, double d) {
  if (r->shown[state].p) put(r->shown[state], j, d);
}

/* Writes h after dropout for the gradient of W_hh, if there is dropout. */
static void keep_dropped(const back_row *r, int64_t j) {
  if (r->dropout.p) put(r->after_dropout, j, get(r->before[FRNN_STATE_H], j) * get(r->dropout, j));
}
