/* pool.c - the thread pool under stress: callers in several threads, numbers of threads and instruction sets that
 * change meanwhile, and interruptions that stop a call, make calls of their own, or fork. For ThreadSanitizer, as
 * pool.sh builds it; the results are checked too, bit for bit.
 *
 *   pool [seconds] [seed] [threads]
 *
 * threads: of a child's calls; 1 under ThreadSanitizer, which cannot start threads in the child of a process with
 * several. Prints the numbers of calls and children; exit status 1 on a wrong result or a child that hangs. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#if defined(_WIN32) || defined(NO_FORKS) /* no fork, or an emulator that does not survive it: there are no children */
#define FORKS 0
#else
#define FORKS 1
#include <sys/wait.h>
#endif

#include <stdatomic.h>

#include "common.h"

enum { DIRECTIONS = 2, CALLERS = 4, LINE = 64, CHILD_SECONDS = 100 };

/* A problem for each way to divide work: by rows; by units, step by step; by groups of rows with sums of their own; two
 * directions; checkpoints; normalised products. The last one takes long enough to be interrupted. */
static struct {
  const char *cell;
  frnn_shape shape; /* its cell is set in main */
  int directions;
} problems[] = {{"lstm", {.dtype = FRNN_F32, .steps = 6, .batch = 24, .input = 10, .hidden = 70}, 1},
                {"gru_before", {.dtype = FRNN_F64, .steps = 4, .batch = 1, .input = 20, .hidden = 260}, 1},
                {"gru_after", {.dtype = FRNN_F32, .steps = 9, .batch = 64, .input = 5, .hidden = 40}, 1},
                {"lstm", {.dtype = FRNN_F32, .steps = 5, .batch = 4, .input = 30, .hidden = 100}, 2},
                {"lstm", {.dtype = FRNN_F64, .steps = 7, .batch = 16, .input = 9, .hidden = 50, .checkpoint = 3}, 2},
                {"lstm_normalised", {.dtype = FRNN_F32, .steps = 4, .batch = 8, .input = 7, .hidden = 90}, 1},
                {"lstm", {.dtype = FRNN_F32, .steps = 40, .batch = 16, .input = 16, .hidden = 64}, 1}};
enum { PROBLEMS = sizeof problems / sizeof *problems, LONG = PROBLEMS - 1 };

/* ---- a problem and the memory to solve it in ------------------------------------------------------------------------
 */

typedef struct {
  frnn_pack_call packing[FRNN_TOGETHER];
  frnn_forward_call forward[DIRECTIONS];
  frnn_backward_call backward[DIRECTIONS];
  int count;
  unsigned char *outputs; /* all side by side */
  size_t bytes;
} task;

/* Takes memory for some numbers from the outputs; if `t` has no memory yet, only counts it. */
static void *output(task *t, int64_t count, int dtype) {
  size_t begin = t->bytes;
  t->bytes += ((size_t)count * size_of(dtype) + LINE - 1) / LINE * LINE;
  return t->outputs ? t->outputs + begin : NULL;
}

static const void *numbers(int64_t count, int dtype) {
  unsigned char *p = work_memory((size_t)count * size_of(dtype) + 1);
  for (int64_t i = 0; i < count; i++) {
    double wide = number() / 4;
    float narrow = (float)wide;
    memcpy(p + (size_t)i * size_of(dtype), dtype == FRNN_F32 ? (void *)&narrow : (void *)&wide, size_of(dtype));
  }
  return p;
}

static frnn_sequence rows(const void *data, const frnn_shape *s, int64_t features) {
  ptrdiff_t row = features * (ptrdiff_t)size_of(s->dtype);
  return (frnn_sequence){(void *)(uintptr_t)data, s->batch * row, row};
}

/* The inputs of a problem, which all its tasks read. */
typedef struct {
  const void *x, *dy, *h, *c;
  frnn_weights weights[DIRECTIONS];
  const void *gains[DIRECTIONS];
} inputs;
static inputs given[PROBLEMS];

static void draw_inputs(int problem) {
  const frnn_shape *s = &problems[problem].shape;
  int64_t gates = frnn_facts_of(s->cell)->gates * s->hidden;
  inputs *in = &given[problem];
  in->x = numbers(s->steps * s->batch * s->input, s->dtype);
  in->dy = numbers(s->steps * s->batch * s->hidden, s->dtype);
  in->h = numbers(s->batch * s->hidden, s->dtype);
  in->c = numbers(s->batch * s->hidden, s->dtype);
  for (int i = 0; i < problems[problem].directions; i++) {
    in->weights[i] = (frnn_weights){.w_ih = numbers(gates * s->input, s->dtype),
                                    .w_hh = numbers(gates * s->hidden, s->dtype),
                                    .b_ih = numbers(gates, s->dtype),
                                    .b_hh = numbers(gates, s->dtype)};
    in->gains[i] = numbers(gates, s->dtype);
  }
}

static frnn_variant variant_of(const frnn_shape *s, const void *gains) {
  frnn_variant v = {0};
  for (int i = FRNN_WEIGHT_LN_IH; i <= FRNN_BIAS_LN_C; i++)
    v.extra[i] = frnn_facts_of(s->cell)->extra[i] ? gains : NULL;
  return v;
}

/* Sets the addresses of all outputs of a task. */
static void place_outputs(task *t) {
  t->bytes = 0;
  for (int i = 0; i < t->count; i++) {
    frnn_forward_call *f = &t->forward[i];
    const frnn_shape *s = &f->shape;
    f->y = rows(output(t, s->steps * s->batch * s->hidden, s->dtype), s, s->hidden);
    f->last = (frnn_state){{output(t, s->batch * s->hidden, s->dtype), output(t, s->batch * s->hidden, s->dtype)}};
  }
  for (int i = 0; i < t->count; i++) {
    frnn_backward_call *b = &t->backward[i];
    const frnn_shape *s = &b->shape;
    int64_t gates = frnn_facts_of(s->cell)->gates * s->hidden;
    b->y = t->forward[i].y;
    b->dx = rows(output(t, s->steps * s->batch * s->input, s->dtype), s, s->input);
    b->dfirst = (frnn_state){{output(t, s->batch * s->hidden, s->dtype), output(t, s->batch * s->hidden, s->dtype)}};
    b->dw_ih = output(t, gates * s->input, s->dtype), b->dw_hh = output(t, gates * s->hidden, s->dtype);
    b->db_ih = output(t, gates, s->dtype), b->db_hh = output(t, gates, s->dtype);
  }
}

static task make_task(int problem) {
  task t = {.count = problems[problem].directions};
  const inputs *in = &given[problem];
  for (int i = 0; i < t.count; i++) {
    frnn_forward_call *f = &t.forward[i];
    f->shape = problems[problem].shape;
    f->shape.reverse = i;
    f->weights = in->weights[i];
    f->variant = variant_of(&f->shape, in->gains[i]);
    f->x = rows(in->x, &f->shape, f->shape.input);
    f->first = (frnn_state){{(void *)(uintptr_t)in->h, (void *)(uintptr_t)in->c}};
    t.packing[i] = (frnn_pack_call){.shape = f->shape, .weights = f->weights, .forms = frnn_form_of(&f->shape)};
    t.packing[i].packed = work_memory(frnn_packed_size(&f->shape, t.packing[i].forms));
    f->packed = t.packing[i].packed;
    f->work = work_memory(frnn_forward_size(&f->shape));
    f->tape = work_memory(frnn_tape_size(&f->shape));
    t.backward[i] = (frnn_backward_call){.shape = f->shape,
                                         .weights = f->weights,
                                         .variant = f->variant,
                                         .x = f->x,
                                         .first = f->first,
                                         .tape = f->tape,
                                         .dy = rows(in->dy, &f->shape, f->shape.hidden),
                                         .work = work_memory(frnn_backward_size(&f->shape))};
  }
  place_outputs(&t);
  t.outputs = work_memory(t.bytes);
  place_outputs(&t);
  return t;
}

static int forward(const task *t, int (*interrupted)(void)) {
  int status = frnn_pack(t->packing, t->count, interrupted);
  return status ? status : frnn_forward(t->forward, t->count, interrupted);
}

static int solve(task *t, int (*interrupted)(void)) {
  memset(t->outputs, 0, t->bytes);
  int status = forward(t, interrupted);
  return status ? status : frnn_backward(t->backward, t->count, interrupted);
}

/* ---- expected outputs ------------------------------------------------------------------------------------------ */

/* Expected outputs, by the sets of the forward and of the backward pass, for another set may be selected between the
 * two. Two sets are enough: the best one, whose bits all others with fused multiply-add have too, and generic. */
static unsigned char *expected[PROBLEMS][2][2];
static int sets;

static void expect(int problem) {
  const char *kinds[] = {frnn_isa_available(0), frnn_isa_available(sets - 1)};
  task t = make_task(problem);
  memset(t.outputs, 0, t.bytes);
  for (int i = 0; i < 2; i++) {
    frnn_select(kinds[i]);
    forward(&t, NULL);
    for (int j = 0; j < 2; j++) {
      frnn_select(kinds[j]);
      frnn_backward(t.backward, t.count, NULL);
      expected[problem][i][j] = memcpy(work_memory(t.bytes), t.outputs, t.bytes);
    }
  }
}

static int is_right(int problem, const task *t) {
  for (int i = 0; i < 4; i++)
    if (memcmp(t->outputs, expected[problem][i / 2][i % 2], t->bytes) == 0) return 1;
  return 0;
}

static atomic_int failures;

static void check(int right, const char *what, int problem) {
  if (right) return;
  atomic_fetch_add(&failures, 1);
  fprintf(stderr, "FAIL problem %d: %s\n", problem, what);
}

/* ---- children
 * -------------------------------------------------------------------------------------------------------- */

enum { WENT_ON = 0, WRONG = 1, ENDED = 10 };
static atomic_int went_on, ended, beside; /* beside: children forked while other threads made calls */
static int threads_of_child = 3;

#if FORKS
/* Waits for a child and counts how it ended; one that hangs is killed. */
static void reap(pid_t child, int problem, atomic_int *well, atomic_int *early) {
  int status = 0, seconds = 0;
  for (; waitpid(child, &status, WNOHANG) == 0; seconds++) {
    if (seconds < 100 * CHILD_SECONDS) {
      nanosleep(&(struct timespec){0, 10000000}, NULL);
      continue;
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    break;
  }
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : WRONG;
  check(code == WENT_ON || code == ENDED, WIFEXITED(status) ? "wrong in a child" : "a child that hung or died",
        problem);
  atomic_fetch_add(code == ENDED ? early : well, 1);
}
#endif

/* ---- callers
 * --------------------------------------------------------------------------------------------------------- */

static atomic_int going = 1, calls, stopped, nested;

typedef struct {
  uint64_t seed;
  task tasks[PROBLEMS], within;
} caller;

/* The action of a thread's interruption at its next poll. */
enum plan { NOTHING, STOP, CALL, FORK, PLANS = FORKS ? FORK + 1 : FORK };
static _Thread_local enum plan plan;
static _Thread_local caller *self;
#if FORKS
static _Thread_local pid_t child;
static _Thread_local int is_child;
#endif

static uint64_t draw(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

static int interrupted(void) {
  enum plan now = plan;
  plan = NOTHING;
  if (now == CALL) {
    atomic_fetch_add(&nested, 1);
    check(solve(&self->within, NULL) == 0 && is_right(0, &self->within), "wrong within another call", 0);
  }
#if FORKS
  if (now == FORK) {
    child = fork();
    is_child = child == 0;
    if (is_child) frnn_set_threads_here(threads_of_child);
  }
#endif
  return now == STOP;
}

#if FORKS
/* Ends a child: its call and another one must be right. */
static void end_child(int problem, int status, const task *t) {
  int right = status == FRNN_FORKED || (status == 0 && is_right(problem, t));
  right = right && solve(&self->within, NULL) == 0 && is_right(0, &self->within);
  _exit(!right ? WRONG : status == FRNN_FORKED ? ENDED : WENT_ON);
}
#endif

static void call(caller *c) {
  int problem = draw(&c->seed) % 4 ? (int)(draw(&c->seed) % PROBLEMS) : LONG;
  task *t = &c->tasks[problem];
  plan = (enum plan)(draw(&c->seed) % PLANS);
  if (draw(&c->seed) % 8 == 0) frnn_set_threads_here((int)(draw(&c->seed) % 5));
  int status = solve(t, interrupted);
#if FORKS
  if (is_child) end_child(problem, status, t);
  if (child > 0) reap(child, problem, &went_on, &ended);
  child = 0;
#endif
  atomic_fetch_add(&calls, 1);
  if (status == FRNN_INTERRUPTED) atomic_fetch_add(&stopped, 1);
  check(status == FRNN_INTERRUPTED || (status == 0 && is_right(problem, t)), "wrong", problem);
}

static void *keep_calling(void *context) {
  self = context;
  while (atomic_load(&going)) call(self);
  return NULL;
}

/* ---- the others
 * ------------------------------------------------------------------------------------------------------ */

static void *keep_changing(void *context) {
  uint64_t *state = context;
  while (atomic_load(&going)) {
    frnn_set_threads(1 + (int)(draw(state) % 6));
    frnn_select(frnn_isa_available((int)(draw(state) % (uint64_t)sets)));
    nanosleep(&(struct timespec){0, (long)(draw(state) % 400000)}, NULL);
  }
  return NULL;
}

#if FORKS
static void *keep_forking(void *context) {
  self = context;
  while (atomic_load(&going)) {
    pid_t pid = fork();
    if (pid == 0) {
      frnn_set_threads_here(threads_of_child);
      end_child(0, FRNN_FORKED, NULL);
    }
    reap(pid, 0, &beside, &beside);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
  }
  return NULL;
}
#endif

static caller make_caller(uint64_t number) {
  caller c = {.seed = number, .within = make_task(0)};
  for (int i = 0; i < PROBLEMS; i++) c.tasks[i] = make_task(i);
  return c;
}

int main(int argc, char **argv) {
  static caller callers[CALLERS + 1];
  pthread_t threads[CALLERS + 2];
  unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
  uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, changes = first;
  if (argc > 3) threads_of_child = atoi(argv[3]);
  while (frnn_isa_available(sets)) sets++;
  for (int i = 0; i < PROBLEMS; i++) problems[i].shape.cell = frnn_cell_named(problems[i].cell);
  for (int i = 0; i < PROBLEMS; i++) draw_inputs(i), expect(i);
  for (int i = 0; i <= CALLERS; i++) callers[i] = make_caller(first + (uint64_t)i);
  for (int i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, keep_calling, &callers[i]);
  pthread_create(&threads[CALLERS], NULL, keep_changing, &changes);
#if FORKS
  alarm(seconds + 2 * CHILD_SECONDS); /* a hang ends here */
  pthread_create(&threads[CALLERS + 1], NULL, keep_forking, &callers[CALLERS]);
#endif
  sleep(seconds);
  atomic_store(&going, 0);
  for (int i = 0; i < CALLERS + 1 + FORKS; i++) pthread_join(threads[i], NULL);
  printf("%d calls, %d within others, %d stopped; children: %d went on with a call, %d could not, %d beside calls\n",
         calls, nested, stopped, went_on, ended, beside);
  printf("%d failures\n", failures);
  return failures > 0;
}
