/* own_runs.h - runs a problem on the engine: passes over all steps, forward and backward, each with a setting, and
 * streams. Work memory and outputs begin as NaN, with a border of NaN around them.
 *
 * It must not know: expected results. */

/* ---- inputs and outputs ---------------------------------------------------------------------------------------- */

enum output { Y, LAST, GRADIENT = LAST + FRNN_STATES_MOST, OUTPUTS = GRADIENT + DIFFERENTIATED };

typedef struct {
  array of[GIVEN], dropout, zoneout;
} inputs;
typedef struct {
  array of[OUTPUTS]; /* memory is NULL if there is no such output */
} results;

static array kept(int dtype, enum layout layout, const tensor *g, const double *values) {
  array a = make(dtype, layout, g->steps, g->rows, g->features, values);
  keep(a.memory, 0);
  return a;
}

static int is_sequence(int what) { return what == X || what == AUX || what == DY || (what >= STATE && what < DY); }

static inputs inputs_of(const problem *p, int dtype, enum layout layout) {
  inputs in;
  for (int i = 0; i < GIVEN; i++) {
    in.of[i] = kept(dtype, is_sequence(i) ? layout : DENSE, &p->given[i], p->given[i].values);
    if (!p->given[i].values) in.of[i].q.data = NULL;
  }
  in.dropout = kept(dtype, DENSE, &p->dropout, p->dropout.values);
  in.zoneout = kept(dtype, DENSE, &p->zoneout, p->zoneout.values);
  if (!p->dropout.values) in.dropout.q.data = NULL;
  if (!p->zoneout.values) in.zoneout.q.data = NULL;
  return in;
}

static int is_asked(int what, int unasked) {
  int always = what >= FIRST && what < FIRST + FRNN_STATES_MOST;
  return !unasked || always || what % 2 != unasked - 1;
}

/* Makes the outputs. With ids, the gradient of the id table takes the place of W_ih's. */
static results outputs_of(const problem *p, int dtype, enum layout layout, int unasked) {
  results out = {0};
  out.of[Y] = kept(dtype, layout, &p->given[DY], NULL);
  for (int i = 0; i < facts_of(p)->states; i++) out.of[LAST + i] = kept(dtype, DENSE, &p->given[DLAST + i], NULL);
  for (int i = 0; i < DIFFERENTIATED; i++) {
    tensor shape = p->given[i];
    if (!shape.direction || !is_asked(i, unasked)) continue;
    if (p->has_ids && i == W_IH) shape.rows = p->given[W_IH].features, shape.features = p->given[W_IH].rows;
    out.of[GRADIENT + i] = kept(dtype, is_sequence(i) ? layout : DENSE, &shape, NULL);
    if (p->has_ids && i == W_IH)
      memset(out.of[GRADIENT + i].q.data, 0, (size_t)elements_of(&out.of[GRADIENT + i]) * size_of(dtype));
  }
  return out;
}

static frnn_state state_of(const array *first) {
  frnn_state s = {{NULL}};
  for (int i = 0; i < FRNN_STATES_MOST; i++) s.of[i] = first[i].q.data;
  return s;
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

typedef struct {
  const char *name;
  int threads, checkpoint, all_forms, planned, no_tape;
  int directions; /* 2: together with the other one */
  int unasked;    /* 1 or 2: every second gradient is NULL, from the first or the second on */
} setting;

static frnn_shape shape_of(const problem *p, int dtype, const setting *how) {
  return (frnn_shape){.cell = &own_cells[p->cell],
                      .dtype = dtype,
                      .reverse = p->reverse,
                      .steps = p->T,
                      .batch = p->B,
                      .input = p->has_ids ? 0 : p->I,
                      .hidden = p->H,
                      .ragged = p->lengths || p->mask || p->reset,
                      .has_ids = p->has_ids,
                      .checkpoint = how->checkpoint};
}

static frnn_rows rows_of(const problem *p) {
  return (frnn_rows){.lengths = p->lengths,
                     .sort_order = p->sort_order,
                     .inverse_order = p->inverse_order,
                     .mask = p->mask,
                     .reset = p->reset,
                     .step = p->B,
                     .reset_to_first = p->reset_to_first};
}

static frnn_weights weights_of(const inputs *in) {
  return (frnn_weights){.w_ih = in->of[W_IH].q.data,
                        .w_hh = in->of[W_HH].q.data,
                        .b_ih = in->of[B_IH].q.data,
                        .b_hh = in->of[B_HH].q.data};
}

/* Packs in all forms, for a shape with other sizes of the batch, which must not matter; or in the form of the shape
 * alone. */
static void *pack(const frnn_shape *shape, const inputs *in, int all_forms) {
  frnn_pack_call call = {.shape = *shape, .weights = weights_of(in), .forms = frnn_form_of(shape)};
  if (all_forms) {
    call.shape.steps = 1 + shape->batch, call.shape.batch = 3 * shape->steps, call.shape.reverse ^= 1;
    call.forms = FRNN_FOR_STEPS | FRNN_FOR_PRODUCTS;
  }
  call.packed = room(frnn_packed_size(&call.shape, call.forms));
  frnn_pack(&call, 1, NULL);
  return call.packed;
}

static frnn_ids ids_of(const problem *p, int dtype, const inputs *in) {
  frnn_ids ids = {.numbers = p->ids, .step = p->B, .count = p->I};
  frnn_id_table_call call = {.shape = shape_of(p, dtype, &(setting){0}), .weights = weights_of(in), .count = p->I};
  if (!p->has_ids) return ids;
  call.shape.input = p->I;
  ids.table = call.table = room(frnn_id_table_size(&call.shape, p->I));
  call.work = room(frnn_id_table_work_size(&call.shape, call.count));
  frnn_make_id_table(&call, NULL);
  return ids;
}

static frnn_forward_call forward_call(const problem *p, const setting *how, const frnn_shape *shape, const inputs *in,
                                      const results *out, frnn_ids ids) {
  frnn_forward_call f = {.shape = *shape,
                         .weights = weights_of(in),
                         .dropout = {.recurrent = in->dropout.q.data, .zoneout[N] = in->zoneout.q.data},
                         .rows = rows_of(p),
                         .ids = ids,
                         .x = in->of[X].q,
                         .y = out->of[Y].q,
                         .aux = in->of[AUX].q};
  f.packed = pack(shape, in, how->all_forms);
  f.first = state_of(&in->of[FIRST]);
  f.last = state_of(&out->of[LAST]);
  f.tape = how->no_tape ? NULL : room(frnn_tape_size(shape));
  f.work = room(frnn_forward_size(shape));
  if (how->planned) {
    void *plan = room(frnn_plan_size());
    frnn_plan(shape, plan);
    f.plan = plan;
  }
  return f;
}

static frnn_backward_call backward_call(const frnn_forward_call *f, const inputs *in, const results *out) {
  const array *gradient = &out->of[GRADIENT];
  frnn_backward_call b = {.shape = f->shape,
                          .weights = f->weights,
                          .dropout = f->dropout,
                          .rows = f->rows,
                          .ids = f->ids,
                          .x = f->x,
                          .y = f->y,
                          .aux = f->aux,
                          .first = f->first,
                          .tape = f->tape};
  b.dy = in->of[DY].q;
  b.dlast = state_of(&in->of[DLAST]);
  b.dx = gradient[X].q;
  b.daux = gradient[AUX].q;
  b.dfirst = state_of(&gradient[FIRST]);
  for (int i = 0; i < FRNN_STATES_MOST; i++) b.dstate[i] = gradient[STATE + i].q;
  b.dw_ih = f->shape.has_ids ? NULL : gradient[W_IH].q.data;
  b.ids.gradient = f->shape.has_ids ? gradient[W_IH].q.data : NULL;
  b.dw_hh = gradient[W_HH].q.data;
  b.db_ih = gradient[B_IH].q.data;
  b.db_hh = gradient[B_HH].q.data;
  b.work = room(frnn_backward_size(&f->shape));
  return b;
}

/* Runs a forward pass of each direction, and a backward pass if there is a tape; returns the first direction's tape. */
static void *run_passes(const problem *p, int dtype, const setting *how, const inputs *in, results *out) {
  frnn_forward_call f[FRNN_TOGETHER];
  frnn_backward_call b[FRNN_TOGETHER];
  frnn_ids ids = ids_of(p, dtype, in);
  frnn_shape shape = shape_of(p, dtype, how);
  frnn_set_threads(how->threads);
  for (int i = 0; i < how->directions; i++, shape.reverse ^= 1) f[i] = forward_call(p, how, &shape, in, &out[i], ids);
  frnn_forward(f, how->directions, NULL);
  if (how->no_tape) return NULL;
  for (int i = 0; i < how->directions; i++) b[i] = backward_call(&f[i], in, &out[i]);
  frnn_backward(b, how->directions, NULL);
  return f[0].tape;
}

/* Runs a pass step by step, with one packing, one plan, and a state that each step overwrites. */
static void run_stream(const problem *p, int dtype, const setting *how, const inputs *in, results *out) {
  frnn_shape shape = shape_of(p, dtype, how);
  frnn_forward_call f;
  frnn_ids ids = ids_of(p, dtype, in);
  frnn_set_threads(how->threads);
  shape.steps = 1;
  f = forward_call(p, how, &shape, in, out, ids);
  for (int k = 0; k < facts_of(p)->states; k++)
    for (int i = 0; i < elements_of(&out->of[LAST + k]); i++)
      memcpy(element(&out->of[LAST + k], i), element(&in->of[FIRST + k], i), size_of(dtype));
  f.first = f.last;
  for (int i = 0; i < p->T; i++) {
    int t = p->reverse ? p->T - 1 - i : i;
    frnn_forward_call step = f;
    step.x.data = (char *)f.x.data + t * f.x.step;
    step.y.data = (char *)f.y.data + t * f.y.step;
    if (f.aux.data) step.aux.data = (char *)f.aux.data + t * f.aux.step;
    if (p->mask) step.rows.mask += t * p->B;
    if (p->reset) step.rows.reset += t * p->B;
    if (p->has_ids) step.ids.numbers += t * p->B;
    if (p->zoneout.values) step.dropout.zoneout[N] = (char *)in->zoneout.q.data + t * in->zoneout.q.step;
    frnn_forward(&step, 1, NULL);
  }
}
