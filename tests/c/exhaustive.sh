#!/usr/bin/env bash
# exp, sigmoid and tanh over all 2^32 floats and 40 million doubles, on every instruction set of this machine: minutes.
#
#   tests/c/exhaustive.sh [stride]      stride: only every so many-th input
#
# CC and JOBS as in make; objects go to build/exhaustive.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=build/exhaustive
jobs=${JOBS:-$(nproc)}
command="${CC:-cc} -std=gnu11 -O3 -ffp-contract=off -Wall -Wextra -Werror -Icsrc"
rm -rf "$out" && mkdir -p "$out"
printf '%s\n' csrc/*/*.c tests/c/exhaustive.c |
  xargs -P "$jobs" -I{} sh -c "$command -c {} -o $out/\$(echo {} | tr / _).o"
$command "$out"/*.o -o "$out/exhaustive" -lm -pthread

# The longest first.
printf '%s\n' "tanh f32" "sigmoid f32" "exp f32" "sigmoid f64" "tanh f64" "exp f64" |
  xargs -P "$jobs" -I{} sh -c "$out/exhaustive {} ${1:-1}"
