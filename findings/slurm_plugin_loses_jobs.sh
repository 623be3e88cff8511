#!/usr/bin/env bash
# snakemake-executor-plugin-slurm 2.8.0 (with Snakemake 9.27.1) can lose jobs: Snakemake counts them as
# running while no job of theirs exists or will ever be reported, so the run never ends.
#
#   case                                       one would guess               what happens
#   1 plain submission, --jobs 2, 6 jobs       6 submitted, run ends         the same
#   2 --slurm-array-jobs, --jobs 2, 6 jobs     arrays of up to 2             none is ever submitted
#   3 squeue fails for some seconds            the run waits, then ends      running jobs are forgotten
#   4 squeue does not list finished jobs       noticed from the outputs      waited for endlessly
#     (a small MinJobAge, no accounting)
#   5 --slurm-no-account                       no account is looked for      the option is never read
#
# Needs bash, python3.11 or later with venv, and a package index. No SLURM: sbatch, squeue, scontrol,
# sinfo, sacct and scancel are stand-ins made here. About four minutes. Exit status 1 if any behaviour changed.
set -euo pipefail
unset PYTHONPATH SNAKEMAKE_PROFILE
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python=${PYTHON:-python3}

"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qqq --disable-pip-version-check \
  snakemake==9.27.1 snakemake-executor-plugin-slurm==2.8.0 \
  snakemake-executor-plugin-slurm-jobstep==0.6.1

mkdir "$folder/bin" "$folder/work"
cd "$folder/work"
cat >"$folder/bin/sbatch" <<'STUB'
#!/usr/bin/env bash
# Accepts a job; after three seconds the file that its comment names is there.
exec 9>"$STATE/lock"
flock 9
id=$(($(cat "$STATE/last" 2>/dev/null || echo 100) + 1))
echo "$id" >"$STATE/last"
[[ "$*" =~ comment\ rule_part_wildcards_([0-9]+) ]]
echo "$id ${BASH_REMATCH[1]}" >>"$STATE/jobs"
(sleep 3; touch "part/${BASH_REMATCH[1]}") >/dev/null 2>&1 9>&- &
echo "$id"
STUB
cat >"$folder/bin/squeue" <<'STUB'
#!/usr/bin/env bash
now=$(($(date +%s) - $(cat "$STATE/start")))
if [ "$CASE" = down ] && ((now >= 4 && now < 20)); then
  echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2
  exit 1
fi
while read -r id number; do
  if [ ! -e "part/$number" ]; then
    echo "$id|RUNNING"
  elif [ "$CASE" != forgets ]; then
    echo "$id|COMPLETED"
  fi
done <"$STATE/jobs"
STUB
printf '#!/bin/sh\necho "MaxArraySize = 1001"\necho "MinJobAge = 300 sec"\n' >"$folder/bin/scontrol"
printf '#!/bin/sh\necho "Slurm accounting storage is disabled" >&2\nexit 1\n' >"$folder/bin/sacct"
printf '#!/bin/sh\n' | tee "$folder/bin/sinfo" >"$folder/bin/scancel"
chmod +x "$folder"/bin/*
cat >Snakefile <<'SMK'
rule all:
    input: expand("part/{n}", n=range(int(config["parts"])))
    localrule: True
rule part:
    output: "part/{n}"
    shell: "touch {output}"
SMK

run() { # case, seconds, arguments... -> $ended, $submitted, $made
  export CASE=$1 STATE="$folder/state"
  local seconds=$2
  shift 2
  rm -rf part .snakemake "$STATE"
  mkdir part "$STATE"
  : >"$STATE/jobs"
  date +%s >"$STATE/start"
  ended=yes
  # The braces keep the shell from reporting the kill.
  { PATH="$folder/bin:$PATH" timeout -s KILL "$seconds" "$folder/venv/bin/snakemake" \
    --executor slurm --slurm-status-command squeue --slurm-init-seconds-before-status-checks 1 \
    --seconds-between-status-checks 1 --latency-wait 5 \
    --default-resources slurm_partition=p mem_mb=100 runtime=5 "$@" >"$folder/output" 2>&1; } \
    2>/dev/null || ended=no
  submitted=$(wc -l <"$STATE/jobs")
  sleep 3
  made=$(find part -type f | wc -l)
}

failures=0
expect() { # what, found, wanted
  if [ "$2" = "$3" ]; then
    echo "as stated: $1: $2"
  else
    echo "CHANGED: $1: $2 instead of $3"
    tail -n 20 "$folder/output"
    failures=1
  fi
}

run plain 90 --jobs 2 --config parts=6
expect "1 plain: ended, submitted, made" "$ended $submitted $made" "yes 6 6"
run plain 30 --jobs 2 --config parts=6 --slurm-array-jobs part
expect "2 arrays: ended, submitted, made" "$ended $submitted $made" "no 0 0"
run down 45 --jobs 2 --config parts=2
expect "3 squeue fails from second 4 to 20: ended, submitted, made" "$ended $submitted $made" "no 2 2"
run forgets 30 --jobs 2 --config parts=2
expect "4 finished jobs not listed: ended, submitted, made" "$ended $submitted $made" "no 2 2"
run plain 90 --jobs 1 --config parts=1 --slurm-no-account
guesses=$(grep -c "trying to guess" "$folder/output" || true)
expect "5 no account: ended, attempts to guess one" "$ended $guesses" "yes 1"
exit "$failures"
