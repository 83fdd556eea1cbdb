#!/usr/bin/env bash
# run.sh [--list]: everything that Broadside's CUDA build can check and measure on this host, step by step, the most
# valuable first. Needs bash, coreutils and NVIDIA's driver; steps for which PyTorch or compute-sanitizer is missing are
# skipped. Exits with 1 if a step failed, and with 2 if none did but not all had their turn.
#
# OUT/results.jsonl has a line when a step starts and one when it has ended, on the disk before the next one starts:
# whatever stops the check, what ended before is kept. OUT/NN-NAME.txt is a step's whole output, written as it comes.
# A step that takes longer than its limit is ended, with all of its children.
#
#   OUT     folder of the results; default: results beside this script
#   BUDGET  seconds for all steps, 800. What cannot have 15 of them is skipped; the last line says where to go on.
#   FROM    number of the first step, 1. The results of earlier ones stay; a step run again has its newest line last.
#   LIMITS  per cent of the steps' limits, 100: more for a slow host
#   PLAN    file with the steps, plan.sh beside this script
#   PYTHON  the Python that has PyTorch, python3
#   SMOKE   1 shows that every step runs, with short tests and tiny benchmarks whose numbers mean nothing: on an emulated
#           GPU (BROADSIDE_LIBCUDA=libbroadside_emu.so), PyTorch on the CPU
#   LIST    1, or --list: print the steps with their limits and run nothing
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${OUT:-$here/results}")
results=$out/results.jsonl
budget=${BUDGET:-800} from=${FROM:-1} percent=${LIMITS:-100} least=${LEAST:-15} list=${LIST:-}
[ "${1:-}" != --list ] || list=1
for v in budget from percent least; do
  [[ ${!v} =~ ^[1-9][0-9]*$ ]] || { echo "run.sh: $v ${!v}: must be a whole number above 0" >&2; exit 64; }
done

number=0  # of the step
sum=0     # of the limits
next=     # the first step that did not have its turn
child=    # the process of the step under way
stopped=  # the signal that ends the check
passed=0 skipped=0 failed=()

# string makes its input one JSON string.
string() {
  LC_ALL=C tr -c '\11\12\40-\176' '?' |
    awk 'BEGIN { printf "\"" } { gsub(/[\\"]/, "\\\\&"); gsub(/\t/, "\\t"); printf "%s%s", (NR > 1 ? "\\n" : ""), $0 } END { printf "\"" }'
}

# objects prints those lines of its input that are whole JSON objects, with commas between them. A benchmark that is
# ended may leave half a line, which would spoil the results.
objects() {
  LC_ALL=C awk '
    function valid(s) {
      gsub(/"([^"\\\001-\037]|\\["\\\/bfnrt]|\\u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F])*"/, "S", s)
      gsub(/-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null/, "V", s)
      gsub(/[ \t]/, "", s)
      while (gsub(/[{][}]|[{]S:[SV](,S:[SV])*[}]|\[\]|\[[SV](,[SV])*\]/, "V", s)) {}
      return s == "V"
    }
    /^[{].*[}]$/ && valid($0) { printf "%s%s", (n++ ? "," : ""), $0 }'
}

# keep appends a line to the results, in one piece whatever ends this script, and has it written to the disk.
keep() {
  printf '%s\n' "$1" > "$out/.line"
  cat "$out/.line" >> "$results"
  sync "$results"
}

now() { date -u +%FT%TZ; }

# record OUTCOME MORE: a line about the step, with more members.
record() {
  keep "$(printf '{"step":%d,"name":%s,"outcome":"%s",%s}' "$number" "$(echo -n "$name" | string)" "$1" "$2")"
}

# reap ends what a step has left. Children may have left its process group, as PyTorch's compilers do, and if this script
# was killed those of its last step are there still: all have the mark.
reap() {
  local left
  for _ in 1 2 3 4 5; do
    mapfile -t left < <(grep -lzxF "BROADSIDE_GPU_CHECK=$out" /proc/[0-9]*/environ 2> /dev/null | tr -dc '0-9\n')
    [ ${#left[@]} -gt 0 ] || return 0
    kill -KILL "${left[@]}" 2> /dev/null
    sleep 0.1
  done
}

# numbered NAME LIMIT: gives the next step its number, its limit and the file of its output, and reports whether it has
# its turn.
numbered() {
  name=$1 limit=$(($2 * percent / 100))
  number=$((number + 1))
  output=$out/$(printf %02d "$number")-$(echo -n "$name" | tr -cs 'A-Za-z0-9' -).txt
  [ $limit -gt 0 ] || limit=1
  sum=$((sum + limit))
  [ -z "$list" ] || printf '%3d  %4d s  %s\n' $number $limit "$name"
  [ -z "$list" ] && [ $number -ge "$from" ]
}

# pass_over REASON: the step is not run.
pass_over() {
  skipped=$((skipped + 1))
  record skipped "\"reason\":$(echo -n "$1" | string)"
  echo "== $number $name: skipped: $1"
}

# skip NAME LIMIT REASON: a step that this host cannot run. It has a number all the same: those of the others must not
# depend on the host.
skip() {
  local name limit
  if numbered "$1" "$2"; then pass_over "$3"; fi
}

# step NAME LIMIT DIR COMMAND...: runs a command in a folder of this script's, for at most so many seconds.
step() {
  local name limit dir=$3 left began status outcome start figures took
  numbered "$1" "$2" || return 0
  shift 3
  left=$((budget - SECONDS))
  if ((left < limit && left < least)); then
    next=${next:-$number}
    pass_over "$((left > 0 ? left : 0)) s are left of $budget"
    return
  fi
  local whole=$((left >= limit))
  ((whole)) || limit=$left
  began=$(now) start=${EPOCHREALTIME/[.,]/}
  record started "\"began\":\"$began\",\"limit\":$limit"
  echo "== $number $name: $*"
  (cd "$here/$dir" && exec timeout -k 5 "$limit" env BROADSIDE_GPU_CHECK="$out" "$@") > "$output" 2>&1 &
  child=$!
  [ -z "$stopped" ] || kill -TERM $child # it came a moment ago
  wait $child 2> /dev/null
  status=$?
  while [ -n "$stopped" ] && kill -0 $child 2> /dev/null; do # the signal ended the wait
    wait $child 2> /dev/null
    status=$?
  done
  child=
  took=$((${EPOCHREALTIME/[.,]/} - start))
  reap
  judge
  figures=$(grep -a '^{.*}$' "$output" | objects)
  record "$outcome" "$(printf '"status":%d,"seconds":%d.%d,"limit":%d,"began":"%s","command":%s,"results":[%s],"output":%s' \
    $status $((took / 1000000)) $((took / 100000 % 10)) $limit "$began" "$(echo -n "$*" | string)" "$figures" \
    "$(grep -av '^{.*}$' "$output" | tail -n 40 | tail -c 4000 | string)")"
  tail -n 3 "$output" | cut -c 1-240
  echo "== $number $name: $outcome, status $status, $((took / 1000000)) of $limit s"
  [ -z "$stopped" ] || finish "stopped by SIG$stopped"
}

# judge says what a step's exit status means, and counts it. timeout exits with 124; where its first signal does not help
# its second ends itself too.
judge() {
  if [ -n "$stopped" ]; then
    outcome=killed next=${next:-$number}
  elif ((status == 124 || status == 137 && took >= limit * 1000000)); then
    outcome=timeout
    ((whole)) || next=${next:-$number}
  elif [ $status -gt 128 ]; then
    outcome=killed
  elif [ $status -ne 0 ]; then
    outcome=failed
  elif grep -q '^testing: warning: no tests to run' "$output"; then
    outcome=failed # the plan names a test that is not there
  elif grep -q '^--- SKIP' "$output" && ! grep -q '^--- PASS' "$output"; then
    outcome=skipped # Go's tests pass where they have nothing to run on
  else
    outcome=passed
  fi
  case $outcome in
    passed) passed=$((passed + 1)) ;;
    skipped) skipped=$((skipped + 1)) ;;
    *) failed+=("$number $name") ;;
  esac
}

# finish REASON: the last line, and the exit status.
finish() {
  [ -z "$list" ] || { echo "$number steps, $sum s in all, if each takes as long as it may"; exit 0; }
  local status=0 names='' n
  [ -z "$next" ] || status=2
  [ ${#failed[@]} -eq 0 ] || status=1
  for n in "${failed[@]}"; do names+=${names:+,}$(echo -n "$n" | string); done
  keep "$(printf '{"check":"ended","reason":%s,"seconds":%d,"passed":%d,"skipped":%d,"failed":[%s],"next":%s}' \
    "$(echo -n "$1" | string)" $SECONDS $passed $skipped "$names" "${next:-null}")"
  rm -f "$out/.line"
  echo "== $1: $passed passed, $skipped skipped, ${#failed[@]} failed, $SECONDS s; $results"
  for n in "${failed[@]}"; do echo "   failed: $n"; done
  [ -z "$next" ] || echo "   resume with FROM=$next"
  exit $status
}

# end REASON: the plan has no use for the steps that follow.
end() {
  [ -z "$list" ] || return 0
  failed+=("$1")
  finish "$1"
}

if [ -z "$list" ]; then
  mkdir -p "$out"
  if [ -s "$results" ] && [ -n "$(tail -c 1 "$results")" ]; then # a machine that stopped can leave half a line
    sed -i '$d' "$results"
  fi
  reap
  trap 'stopped=INT; [ -z "$child" ] || kill -TERM $child' INT
  trap 'stopped=TERM; [ -z "$child" ] || kill -TERM $child' TERM
  revision=$(cat "$here/revision" 2> /dev/null || echo unknown)
  keep "$(printf '{"check":"started","revision":%s,"date":"%s","system":%s,"from":%d,"budget":%d}' \
    "$(echo -n "$revision" | string)" "$(now)" "$(uname -srm | string)" "$from" "$budget")"
  echo "== Broadside $revision, from step $from, $budget s: $results"
fi
plan=$(realpath -m "${PLAN:-$here/plan.sh}")
# shellcheck source=plan.sh
source "$plan"
finish "the plan has ended"
