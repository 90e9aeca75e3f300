/* own_problem.h - a problem for a cell of own_cells.h: its sizes, its rows, and the numbers of all its inputs.
 *
 * All arrays are dense, in float64, rows in the batch's own order.
 *
 * It must not know: the engine's calls, equations. */

/* ---- memory, given back together ------------------------------------------------------------------------------- */

enum { BLOCKS_MOST = 4096 };
static struct {
  unsigned char *p;
  size_t bytes; /* before its border; 0: it has no border */
} blocks[BLOCKS_MOST];
static int held;

static void *keep(void *p, size_t bytes) {
  if (held == BLOCKS_MOST) abort();
  blocks[held].p = p;
  blocks[held++].bytes = bytes;
  return p;
}

static void *room(size_t bytes) { return keep(work_memory(bytes + BORDER), bytes); }

/* Returns how many blocks were written beyond their ends. */
static int give_back(void) {
  int beyond = 0;
  while (held-- > 0) {
    int wrong = 0;
    for (int i = 0; blocks[held].bytes > 0 && i < BORDER; i++) wrong |= blocks[held].p[blocks[held].bytes + i] != 0xFF;
    beyond += wrong;
    free(blocks[held].p);
  }
  held = 0;
  return beyond;
}

/* ---- a problem ----------------------------------------------------------------------------------------------------
 */

/* The arrays that the loss depends on. STATE is added to a state after each step, so its derivative is dstate. The loss
 * is the sum of y times DY and of the last states times DLAST. */
enum given {
  X,
  AUX,
  FIRST,
  W_IH = FIRST + FRNN_STATES_MOST,
  W_HH,
  B_IH,
  B_HH,
  STATE,
  DIFFERENTIATED = STATE + FRNN_STATES_MOST,
  DY = DIFFERENTIATED,
  DLAST,
  GIVEN = DLAST + FRNN_STATES_MOST
};

typedef struct {
  int steps, rows, features;
  double *values, *direction; /* NULL: values are zeros; no derivative is wanted */
} tensor;

typedef struct {
  enum own_cell cell;
  int reverse, T, B, I, H, has_ids, reset_to_first;
  int64_t *ids;                                  /* (T, B); x is then a one at this feature */
  int64_t *lengths, *sort_order, *inverse_order; /* as frnn_rows has them */
  uint8_t *mask, *reset;
  tensor given[GIVEN], dropout, zoneout; /* factors of h in the products: (1, B, H); zoneout mask of one state: (T, B,
                                            H); rows by sorted index */
  double *y, *last[FRNN_STATES_MOST], derivative[DIFFERENTIATED];
  int along; /* the array that has its direction now; -1: none */
} problem;

static const frnn_cell_facts *facts_of(const problem *p) { return &own_cells[p->cell].facts; }

/* The sorted index of row b. */
static int index_of(const problem *p, int b) { return p->inverse_order ? (int)p->inverse_order[b] : b; }

static int length_of(const problem *p, int b) { return p->lengths ? (int)p->lengths[index_of(p, b)] : p->T; }

/* ---- drawn by its number -------------------------------------------------------------------------------- */

/* n numbers in [-scale, scale). */
static double *numbers(int n, double scale) {
  double *p = keep(malloc(((size_t)n + 1) * sizeof *p), 0);
  for (int i = 0; i < n; i++) p[i] = number() * scale;
  return p;
}

/* Draws an array. scale 0: the input is NULL, but its gradient is computed all the same. */
static void give(problem *p, int what, int steps, int rows, int features, double scale) {
  int n = steps * rows * features;
  p->given[what] = (tensor){steps, rows, features, NULL, NULL};
  if (scale > 0) p->given[what].values = numbers(n, scale);
  if (what < DIFFERENTIATED) p->given[what].direction = numbers(n, 1);
}

/* One flag in `one_in` is `exception`. */
static uint8_t *flags(int n, int exception, int one_in) {
  uint8_t *p = room((size_t)n + 1);
  for (int i = 0; i < n; i++) p[i] = (uint8_t)(number() < 2.0 / one_in - 1 ? exception : !exception);
  return p;
}

/* kind 0: a full batch; 1: masks and resets; 2: also rows that end, with a sort order; 3: resets and rows that end,
 * sorted already. */
static void draw_rows(problem *p, int kind) {
  int T = p->T, B = p->B;
  size_t bytes = ((size_t)B + 1) * sizeof(int64_t);
  if (kind == 0) return;
  if (kind != 3) p->mask = flags(T * B, 0, 4);
  p->reset = flags(T * B, 1, 4);
  if (kind == 1) return;
  p->lengths = room(bytes);
  for (int i = 0; i < B; i++) p->lengths[i] = T - (T + 1) * i / B;
  if (kind == 3) return;
  p->sort_order = room(bytes), p->inverse_order = room(bytes);
  for (int i = 0; i < B; i++) p->sort_order[i] = (3 * i + 2) % B; /* no B is a multiple of 3 */
  for (int i = 0; i < B; i++) p->inverse_order[p->sort_order[i]] = i;
}

/* Each element is `value` or 0. */
static tensor draw_mask(int steps, int rows, int features, double value) {
  tensor mask = {steps, rows, features, numbers(steps * rows * features, 1), NULL};
  for (int i = 0; i < steps * rows * features; i++) mask.values[i] = mask.values[i] < 0 ? 0 : value;
  return mask;
}

/* Case number n of a cell: options follow from the number. */
static problem draw(int cell, int n, int T, int B, int I, int H) {
  problem p = {.cell = (enum own_cell)cell, .reverse = (n + n / 4) & 1, .T = T, .B = B, .I = I, .H = H};
  int states = facts_of(&p)->states, gates = facts_of(&p)->gates * H, recurrent = facts_of(&p)->recurrent * H;
  double scale = 1;
  while (scale * scale * H > 2) scale /= 2;
  p.has_ids = n % 5 == 3 && I > 0;
  p.reset_to_first = n / 4 % 2;
  draw_rows(&p, n % 4);
  if (p.has_ids) p.ids = room((size_t)(T * B + 1) * sizeof(int64_t));
  for (int i = 0; p.has_ids && i < T * B; i++) p.ids[i] = (int)((number() + 1) * I / 2);
  if (!p.has_ids) give(&p, X, T, B, I, 1);
  if (facts_of(&p)->aux) give(&p, AUX, T, B, facts_of(&p)->aux, 1);
  give(&p, W_IH, 1, gates, I, scale);
  if (recurrent) give(&p, W_HH, 1, recurrent, H, scale);
  give(&p, B_IH, 1, 1, gates, n % 4 == 1 ? 0 : scale);
  if (recurrent) give(&p, B_HH, 1, 1, recurrent, n % 4 == 2 ? 0 : scale);
  give(&p, DY, T, B, H, n % 5 == 2 ? 0 : 1);
  if (n % 3 == 1 && facts_of(&p)->takes >> FRNN_RECURRENT_DROPOUT & 1) p.dropout = draw_mask(1, B, H, 2);
  if (n % 7 < 3 && facts_of(&p)->takes >> FRNN_ZONEOUT & 1) p.zoneout = draw_mask(T, B, H, 1);
  for (int i = 0; i < states; i++) {
    give(&p, FIRST + i, 1, B, H, 1);
    give(&p, STATE + i, T, B, H, 0);
    give(&p, DLAST + i, 1, B, H, (n + i) % 6 == 4 ? 0 : 1);
    p.last[i] = numbers(B * H, 0);
  }
  p.y = numbers(T * B * H, 0);
  return p;
}
