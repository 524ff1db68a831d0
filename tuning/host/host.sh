#!/usr/bin/env bash
# Applies what `corering doctor` advises for a host, and undoes it. What a host does not have, and what the doctor calls
# good, is left as it is; limits of the network are raised a little ahead of need, see 60-corering.conf.
#
#   host.sh apply [--dry-run] [--workers 0,1]     # apply again: nothing more happens
#   host.sh undo  [--dry-run]                     # everything is as it was before the first apply
#
# --workers names the CPUs of the workers: their clocks and idle states are set, and interrupts go to the others.
# Without it interrupts stay where they are, and all CPUs are set.
# Changes last until the next boot: run it from a unit that starts before the server. Values that are replaced are kept
# in /run/corering-host. --root DIR works on a tree of files instead of this host.
set -euo pipefail

usage() { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }

action=${1:-}
[[ $action == apply || $action == undo ]] || usage
shift
root='' dry_run='' workers=''
while (($#)); do
  case $1 in
    --dry-run) dry_run=yes ;;
    --root) root=${2:-}; [[ -n $root ]] || usage; shift ;;
    --workers) workers=${2:-}; [[ -n $workers ]] || usage; shift ;;
    *) usage ;;
  esac
  shift
done
readonly saved=$root/run/corering-host
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Writes a value to a file of the kernel and says so.
write() {
  printf '%s: %s -> %s\n' "${1#"$root"}" "$3" "$2"
  [[ -n $dry_run ]] && return
  if ! printf '%s\n' "$2" 2>/dev/null >"$1"; then
    printf '%s: not changed: this host refuses it\n' "${1#"$root"}" >&2
    return 1
  fi
}

# The value that a file has now; of a choice in brackets the one chosen.
now() {
  local text
  text=$(tr '\t' ' ' <"$1")
  [[ $text =~ \[([^]]+)\] ]] && text=${BASH_REMATCH[1]}
  printf '%s' "$text"
}

# The same of a file that may not be there.
has() { if [[ -e $root/$1 ]]; then now "$root/$1"; fi; }

# put FILE VALUE: FILE gets VALUE, unless it has it or is not there; its first value is kept for undo.
put() {
  local file=$root/$1 before
  [[ -e $file ]] || return 0
  before=$(now "$file")
  [[ $before == "$2" ]] && return 0
  write "$file" "$2" "$before" || return 0
  [[ -n $dry_run || -e $saved/$1 ]] && return 0
  mkdir -p "$saved/$(dirname "$1")"
  printf '%s\n' "$before" >"$saved/$1"
}

# The same, unless what it has is larger already; of several numbers the last counts.
put_at_least() {
  local before
  [[ -e $root/$1 ]] || return 0
  before=$(now "$root/$1")
  if ((${before##* } < ${2##* })); then put "$1" "$2"; fi
}

# The CPUs of a list such as 0,2-4, one a line.
each() {
  local part
  for part in ${1//,/ }; do seq "${part%-*}" "${part#*-}"; done
}

apply() {
  local name value path cpu state others
  while IFS='=' read -r name value; do
    name=${name// /}
    [[ -z $name || $name == '#'* ]] && continue
    value=$(xargs <<<"$value")
    path=proc/sys/${name//.//}
    # What the doctor calls good stays.
    case $name in
      net.core.* | *backlog | *mem) put_at_least "$path" "$value" ;;
      vm.overcommit_memory) if [[ $(has "$path") == 2 ]]; then put "$path" "$value"; fi ;;
      vm.swappiness)
        if [[ -n $(has proc/swaps | sed 1d) && $(has "$path") != 0 ]]; then put "$path" "$value"; fi ;;
      kernel.numa_balancing) if [[ -e $root/sys/devices/system/node/node1 ]]; then put "$path" "$value"; fi ;;
      *) put "$path" "$value" ;;
    esac
  done <"$here/60-corering.conf"
  path=sys/kernel/mm/transparent_hugepage
  if [[ $(has $path/enabled) == never ]]; then put $path/enabled madvise; fi
  if [[ $(has $path/defrag) == always ]]; then put $path/defrag defer+madvise; fi
  cd "${root:-/}"
  # Of the workers' CPUs; of all of them when nobody says which these are.
  while read -r cpu; do
    for path in sys/devices/system/cpu/cpu$cpu/cpufreq/scaling_governor; do put "$path" performance; done
    # Idle states that take longer than 20 microseconds to leave.
    for state in sys/devices/system/cpu/cpu$cpu/cpuidle/state*; do
      if [[ -r $state/latency ]] && (($(<"$state/latency") > 20)); then put "$state/disable" 1; fi
    done
  done < <(if [[ -n $workers ]]; then each "$workers"; else echo '*'; fi)
  [[ -n $workers ]] || return 0
  others=$(comm -13 <(each "$workers" | sort) <(each "$(<sys/devices/system/cpu/online)" | sort) | sort -n | paste -sd,)
  if [[ -z $others ]]; then
    echo 'every CPU has a worker: interrupts stay where they are' >&2
    return 0
  fi
  for path in proc/irq/[0-9]*/smp_affinity_list; do
    [[ -e $path && $(each "$(<"$path")" | paste -sd,) != "$others" ]] && put "$path" "$others"
  done
  return 0
}

undo() {
  local path
  [[ -d $saved ]] || return 0
  while read -r path; do
    write "$root/$path" "$(<"$saved/$path")" "$(now "$root/$path")" || true
  done < <(cd "$saved" && find . -type f -printf '%P\n' | sort)
  [[ -n $dry_run ]] || rm -r "$saved"
}

"$action"
