#!/usr/bin/env bash
# A SLURM cluster for one test: a CPU node (c1) and two GPU nodes (g1, g2) on this machine.
#   cluster.sh up FOLDER      cluster.sh down FOLDER
# Root only; Debian's slurm-wlm and munge. Nothing outlives `down`: keys, state and logs lie in
# FOLDER, only two links are made in /etc/slurm (the executor deletes SLURM_CONF inside jobs, so
# the configuration must stand where SLURM looks by itself).
set -euo pipefail

action=$1
root=$(realpath -m "$2")
host=$(hostname -s)
nodes=(c1 g1 g2)

up() {
  if [ -e /etc/slurm/slurm.conf ] && [ "$(readlink -f /etc/slurm/slurm.conf)" != "$root/slurm.conf" ]; then
    echo "/etc/slurm/slurm.conf exists: this machine has a cluster already" >&2
    exit 3
  fi
  mkdir -p "$root"/{log,pid,state,spool/{c1,g1,g2}} /run/munge /etc/slurm
  chmod 755 /run/munge
  configure
  ln -sfn "$root/slurm.conf" /etc/slurm/slurm.conf
  ln -sfn "$root/gres.conf" /etc/slurm/gres.conf
  if ! munge -n >/dev/null 2>&1; then
    (umask 077 && head -c 128 /dev/urandom >"$root/munge.key")
    munged --force --key-file="$root/munge.key" --seed-file="$root/munge.seed" \
      --log-file="$root/log/munged" --pid-file="$root/pid/munged"
  fi
  slurmctld -c
  for node in "${nodes[@]}"; do slurmd -c -N "$node"; done
  for _ in $(seq 60); do
    # sinfo hangs while the controller is not up.
    if [ "$(timeout 2 sinfo -h -N -o %T 2>/dev/null | sort -u)" = idle ]; then
      exit 0
    fi
    sleep 0.2
  done
  tail -n 20 "$root"/log/* >&2
  exit 1
}

configure() {
  # A GPU must be a character device of its own, or jobs get no CUDA_VISIBLE_DEVICES.
  for i in 0 1; do
    [ -c "$root/gpu$i" ] || mknod "$root/gpu$i" c 1 3
  done
  echo "NodeName=g[1-2] Name=gpu Type=toy File=$root/gpu[0-1]" >"$root/gres.conf"
  # config_overrides: more processors and memory than the machine has. OverMemoryKill: without
  # cgroups a job above its memory is not killed otherwise.
  cat >"$root/slurm.conf" <<CONF
ClusterName=vireo
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
MailProg=/bin/true
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=600
KillWait=1
SlurmdTimeout=10
SlurmdParameters=config_overrides
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool/%n
SlurmctldPidFile=$root/pid/slurmctld
SlurmdPidFile=$root/pid/slurmd.%n
SlurmctldLogFile=$root/log/slurmctld
SlurmdLogFile=$root/log/slurmd.%n
NodeName=DEFAULT CPUs=16 Sockets=1 CoresPerSocket=16 ThreadsPerCore=1 RealMemory=64000
NodeName=c1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26821
NodeName=g1 NodeHostname=$host NodeAddr=127.0.0.1 Port=26822 Gres=gpu:toy:2 Feature=toy8
NodeName=g2 NodeHostname=$host NodeAddr=127.0.0.1 Port=26823 Gres=gpu:toy:2 Feature=toy40
PartitionName=cpu Nodes=c1 Default=YES MaxTime=UNLIMITED State=UP
PartitionName=gpu Nodes=g1,g2 MaxTime=UNLIMITED State=UP PriorityTier=1
PartitionName=urgent Nodes=g1,g2 MaxTime=UNLIMITED State=UP PriorityTier=10
CONF
}

down() {
  timeout 5 scancel --user="$(id -un)" 2>/dev/null || true
  for _ in $(seq 50); do
    # A node daemon that is told to go waits for its jobs: first they, then it.
    if [ -z "$(timeout 2 squeue -h -t running,completing 2>/dev/null)" ]; then break; fi
    sleep 0.2
  done
  for file in "$root"/pid/slurmd.* "$root/pid/slurmctld" "$root/pid/munged"; do
    if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  for name in slurm.conf gres.conf; do
    if [ "$(readlink "/etc/slurm/$name" || true)" = "$root/$name" ]; then rm "/etc/slurm/$name"; fi
  done
}

"$action"
