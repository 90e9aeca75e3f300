/* ragged.h - the rows that are at work in a step, and the origin of their states, in a batch whose sequences end at
 * different times, are masked in some steps, or are reset.
 *
 * Rows go by sorted index, from the longest to the shortest, so those at work are always the first ones: a prefix that
 * shrinks from step to step, or grows in reverse. The library's own arrays are indexed by sorted index, the user's by
 * row of the batch.
 *
 * It must not know: dtypes, cells, threads, Python. */
#ifndef FRNN_RAGGED_H
#define FRNN_RAGGED_H

#include "sequence.h"

static inline int64_t row_of(const frnn_rows *r, int64_t index) { return r->sort_order ? r->sort_order[index] : index; }

/* Moves *row to the next row of the user's whose sorted index is in `rows`; returns that index, -1 if there is none.
 * Rows are visited in memory order, which is much faster than to jump among them. */
static inline int64_t next_index(const frnn_rows *r, int64_t *row, range rows) {
  if (!r->sort_order) *row = most(*row, rows.begin);
  for (int64_t end = r->sort_order ? r->step : rows.begin + rows.count; *row < end; (*row)++) {
    int64_t index = r->sort_order ? r->inverse_order[*row] - r->begin : *row;
    if (index >= rows.begin && index < rows.begin + rows.count) return index;
  }
  return -1;
}

static inline int64_t length_of(const frnn_shape *s, const frnn_rows *r, int64_t index) {
  return r->lengths ? r->lengths[index] : s->steps;
}

/* The number of sorted indices at work at time t. */
static inline int64_t working(const frnn_shape *s, const frnn_rows *r, int64_t t) {
  int64_t from = 0, to = s->batch;
  if (!r->lengths) return to;
  while (from < to) {
    int64_t middle = (from + to) / 2;
    if (r->lengths[middle] > t)
      from = middle + 1;
    else
      to = middle;
  }
  return from;
}

/* The part of some sorted indices that is at work at time t. */
static inline range working_of(const frnn_shape *s, const frnn_rows *r, range rows, int64_t t) {
  return (range){rows.begin, most(0, least(rows.count, working(s, r, t) - rows.begin))};
}

static inline int holds(const frnn_rows *r, int64_t t, int64_t index) {
  return r->mask && !r->mask[t * r->step + row_of(r, index)];
}

static inline int resets(const frnn_rows *r, int64_t t, int64_t index) {
  return r->reset && r->reset[t * r->step + row_of(r, index)];
}

/* 1 if step i of the pass is the first step of a sorted index. */
static inline int begins(const frnn_shape *s, const frnn_rows *r, int64_t i, int64_t index) {
  return i == 0 || (s->reverse && time_of(s, i) == length_of(s, r, index) - 1);
}

/* 1 if a sorted index goes on from the state that step i - 1 left. */
static inline int goes_on(const frnn_shape *s, const frnn_rows *r, int64_t i, int64_t index) {
  return !begins(s, r, i, index) && !resets(r, time_of(s, i), index);
}

/* If it does not go on: 1 if it begins from zero, 0 if from the call's first state. */
static inline int begins_at_zero(const frnn_shape *s, const frnn_rows *r, int64_t i, int64_t index) {
  return resets(r, time_of(s, i), index) && !r->reset_to_first;
}

/* The first of some sorted indices, from p on, whose row has the flag `value` at time t; -1 if there is none. Fast
 * if few rows have that flag. */
static inline int64_t next_of_few(const frnn_rows *r, const uint8_t *flags, int value, int64_t t, int64_t p,
                                  range rows) {
  int64_t end = rows.begin + rows.count;
  if (!flags || p >= end) return -1;
  flags += t * r->step;
  if (!r->sort_order) {
    const uint8_t *found = memchr(flags + p, value, (size_t)(end - p));
    return found ? found - flags : -1;
  }
  while (p < end && flags[r->sort_order[p]] != value) p++;
  return p < end ? p : -1;
}

static inline int64_t next_held(const frnn_rows *r, int64_t t, int64_t p, range rows) {
  return next_of_few(r, r->mask, 0, t, p, rows);
}

static inline int64_t next_reset(const frnn_rows *r, int64_t t, int64_t p, range rows) {
  return next_of_few(r, r->reset, 1, t, p, rows);
}

/* The next of some sorted indices at work in step i, from p on, that does not go on from step i - 1; -1: all do. */
static inline int64_t next_beginning(const frnn_shape *s, const frnn_rows *r, int64_t i, int64_t p, range rows) {
  int64_t t = time_of(s, i), end = rows.begin + rows.count;
  range before = i == 0 ? (range){rows.begin, 0} : s->reverse ? working_of(s, r, rows, t + 1) : rows;
  int64_t reset = next_reset(r, t, p, before);
  if (reset >= 0) return reset;
  p = most(p, before.begin + before.count);
  return p < end ? p : -1;
}

/* The sum of the steps of all rows. */
static inline int64_t steps_of_rows(const frnn_shape *s, const frnn_rows *r) {
  int64_t sum = 0;
  if (!r->lengths) return s->steps * s->batch;
  for (int64_t p = 0; p < s->batch; p++) sum += r->lengths[p];
  return sum;
}

/* The sorted indices of a part; all parts take about the same number of steps. */
static inline range rows_of_part(const frnn_shape *s, const frnn_rows *r, int64_t part, int64_t parts) {
  range rows = {0, 0};
  if (!r->lengths) return range_of(s->batch, part, parts);
  int64_t all = steps_of_rows(s, r), sum = 0, p = 0;
  for (; p < s->batch && sum < all * part / parts; p++) sum += r->lengths[p];
  rows.begin = p;
  for (; p < s->batch && (sum < all * (part + 1) / parts || part == parts - 1); p++) sum += r->lengths[p];
  rows.count = p - rows.begin;
  return rows;
}

/* The shape of a full batch that is as much work: for dividing work among threads. */
static inline frnn_shape as_if_full(const frnn_shape *s, const frnn_rows *r) {
  frnn_shape full = *s;
  if (!r->lengths || s->batch == 0) return full;
  full.steps = r->lengths[0];
  full.batch = full.steps > 0 ? (steps_of_rows(s, r) + full.steps - 1) / full.steps : 1;
  return full;
}

#endif
