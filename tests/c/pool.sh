#!/usr/bin/env bash
# The thread pool under ThreadSanitizer: turns.c, then pool.c for some seconds. Threads share the same arrays with any
# instruction set, so on x86-64 it builds AVX2 and generic alone: AVX-512 takes minutes to compile.
#
#   tests/c/pool.sh [seconds] [seed]
#
# CC and JOBS as in make; objects go to build/pool. A race ends it with its report and exit status 66. cross.sh runs the
# same programs without the sanitizer.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=build/pool
jobs=${JOBS:-$(nproc)}
command="${CC:-cc} -std=gnu11 -O1 -g1 -fsanitize=thread -ffp-contract=off -Wall -Wextra -Werror -Icsrc"
sources=(csrc/*/*.c)
if [ "$(uname -m)" = x86_64 ]; then
  command="$command -DFRNN_ONE_SET -DFRNN_WITH_AVX2 -DFRNN_WITH_GENERIC"
  mapfile -t sources < <(printf '%s\n' "${sources[@]}" | grep -v csrc/isa/avx512)
fi
rm -rf "$out" && mkdir -p "$out"
printf '%s\n' "${sources[@]}" |
  xargs -P "$jobs" -I{} sh -c "$command -c {} -o $out/\$(echo {} | tr / _).o"
for program in turns pool; do
  $command tests/c/$program.c "$out"/*.o -o "$out/$program" -lm -pthread
done

# die_after_fork=0: children make calls too, though on one thread alone. Fixed addresses, where the system grants them:
# the sanitizer's memory map has no room for those that new kernels draw.
fixed=(setarch "$(uname -m)" -R)
"${fixed[@]}" true 2>/dev/null || fixed=()
export TSAN_OPTIONS="halt_on_error=1 die_after_fork=0 ${TSAN_OPTIONS:-}"
"${fixed[@]}" "$out/turns"
"${fixed[@]}" "$out/pool" "${1:-5}" "${2:-1}" 1
