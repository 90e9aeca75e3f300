#!/usr/bin/env bash
# Builds check.c, options.c and own_cell.c with every compiler and for every architecture there is a tool for, runs
# them, and compares the results bit for bit: all sets with a fused multiply-add must agree, and all generic builds
# among themselves. On this machine turns.c and pool.c run too, for some seconds.
#
#   tests/c/cross.sh [--all]
#
# For AArch64 on another machine: gcc-aarch64-linux-gnu and qemu-user (Debian's names). What is not installed is
# skipped with a line that says so; with --all it is a failure. Objects go to build/cross.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=build/cross
flags=$(python3 tests/support/c_flags.py)
passed=0 failed=0 all=${1:-} link=

pass() { passed=$((passed + 1)); echo "PASS $*"; }
fail() { failed=$((failed + 1)); echo "FAIL $*"; }
missing() { if [ "$all" = --all ]; then fail "$*"; else echo "skip $*"; fi; }

# build NAME COMMAND [BUILD]: the programs in out/NAME from the compiler's command, on all cores. With BUILD the kernels
# are that build's. `link` has more flags for the programs.
programs=(check options own_cell) of_pool=(pool turns)
build() {
  local name=$1 command=$2 dir=$out/$1 but=none
  rm -rf "$dir" && mkdir -p "$dir"
  if [ $# = 3 ]; then but=csrc/isa/ && cp "$out/$3"/csrc_isa_*.o "$dir"; fi
  # shellcheck disable=SC2086
  if printf '%s\n' csrc/*/*.c | grep -v "^$but" |
    xargs -P "$(nproc)" -I{} sh -c "$command $flags -c {} -o $dir/\$(echo {} | tr / _).o" &&
    printf '%s\n' "${programs[@]}" "${of_pool[@]}" |
    xargs -P "$(nproc)" -I{} sh -c "$command $link $flags $dir/*.o tests/c/{}.c -o $dir/{} -lm -pthread"; then
    pass "$name: builds without a warning ($command)"
  else
    fail "$name: build ($command)"
    return 1
  fi
}

# run NAME LABEL ARGUMENTS [EMULATOR [PROGRAM]]: the programs or one of them, into a log that ends with their exit status
run() {
  local name=$1 label=$2 arguments=$3 status=0 program
  for program in ${5:-"${programs[@]}"}; do
    # shellcheck disable=SC2086
    ${4:-} "$out/$name/$program" $arguments || status=$?
  done >"$out/$name/$label.log"
  echo "status $status" >>"$out/$name/$label.log"
}

# count NAME LABEL: counts the lines of a log, keeps the hashes in it
count() {
  local name=$1 label=$2 verdict text
  while read -r verdict text; do
    case $verdict in
      PASS) pass "$name, $label: $text" ;;
      FAIL) fail "$name, $label: $text" ;;
      hash) echo "$text" >>"$out/hashes" ;;
      status) [ "$text" = 0 ] || fail "$name, $label: exit status $text" ;;
      *) echo "     $verdict $text" ;;
    esac
  done <"$out/$name/$label.log"
}

check() { run "$@" && count "$1" "$2"; }

# natively NAME: the programs with one thread and with three, both at once
natively() {
  run "$1" "1 thread" 1 &
  run "$1" "3 threads" 3
  wait
  count "$1" "1 thread"
  count "$1" "3 threads"
}

# company NAME: what the pool promises, and its results among callers, changes and forks
company() {
  check "$1" pool "" "" turns
  if "$out/$1/pool" 5 >"$out/$1/company.log" 2>&1; then pass "$1: the thread pool"; else fail "$1: see $out/$1/company.log"; fi
}

rm -rf "$out" && mkdir -p "$out"
: >"$out/hashes"
machine=$(uname -m)
clang=$(compgen -c clang | grep -E '^clang(-[0-9]+)?$' | sort -t- -k2 -n | tail -1 || true)
for compiler in gcc $clang; do
  build "$machine-$compiler" "$compiler" || continue
  natively "$machine-$compiler"
  company "$machine-$compiler"
done
[ -n "$clang" ] || missing "clang: not installed"
of_pool=()
build "$machine-single" "gcc -DFRNN_SINGLE" "$machine-gcc" && check "$machine-single" "without threads" 1

if [ "$machine" != aarch64 ]; then
  cross=aarch64-linux-gnu-gcc emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
  if ! command -v "$cross" >/dev/null; then
    missing "AArch64: no $cross (gcc-aarch64-linux-gnu)"
  elif [ -z "$emulator" ]; then
    missing "AArch64: no qemu-aarch64 (qemu-user)"
  else
    # The emulator takes minutes, so the programs run at once, as many as there are cores, the longest first. Code that
    # does not fuse multiply and add runs in that one alone: no CPU of AArch64 needs it.
    emulated=() link=-static of_pool=(pool turns)
    build aarch64-gcc "$cross" && emulated+=(aarch64-gcc)
    if [ -n "$clang" ]; then
      build aarch64-clang "$clang --target=aarch64-linux-gnu" && emulated+=(aarch64-clang)
    fi
    sets=
    for program in "${programs[@]}"; do
      for name in "${emulated[@]}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n || true; done
        run "$name" "$program" "1 $sets" "$emulator" "$program" &
        sets=fused
      done
    done
    wait
    for name in "${emulated[@]}"; do
      for program in "${programs[@]}"; do count "$name" "$program"; done
    done
  fi
fi

# Of each result one hash, whatever the set, the compiler, the machine and the threads.
sort "$out/hashes" | uniq -c | sort -k2,5 >"$out/distinct"
while read -r kind dtype what stage; do
  line=$(awk -v k="$kind $dtype $what $stage" '$2" "$3" "$4" "$5 == k {n++; runs += $1} END {print n, runs}' "$out/distinct")
  text="$kind $dtype $what $stage: the same bits in all ${line#* } runs"
  if [ "${line% *}" = 1 ]; then pass "$text"; else fail "$text: ${line% *} different results"; fi
done < <(awk '{print $2, $3, $4, $5}' "$out/distinct" | sort -u)

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
