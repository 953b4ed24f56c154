#!/bin/bash
@SBATCH@

# Submit with `sbatch THIS_FILE`. Ray runs on every node of the allocation, the recipe's driver on the first.
# @WARNING@ s before the time limit the driver is ended and the job queued again: the same command goes on with the run.
# A job that Slurm preempts or whose node fails is queued again by Slurm itself (--requeue).
set -euo pipefail

@SETUP@
export PATH=@PROGRAMS@:"$PATH"

RECIPE=@RECIPE@
OUT=@OUT@
CPUS=@CPUS@
GPUS=@GPUS@
START_LIMIT_S=${MERGEFRONT_START_LIMIT_S:-600}
STOP_LIMIT_S=${MERGEFRONT_STOP_LIMIT_S:-60}
MOST_REQUEUES=${MERGEFRONT_MOST_REQUEUES:-30}

@REQUIRED@

export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=token PYTHONUNBUFFERED=1 NO_COLOR=1
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" TOKENIZERS_PARALLELISM=false
# A secret of this job alone. It travels in the environment: a command line can be read by everybody on a node.
RAY_AUTH_TOKEN=$(od -An -tx1 -N32 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD=${HOSTS[0]}
HEAD_IP=${MERGEFRONT_HEAD_IP:-$(getent ahostsv4 "$HEAD" | awk 'NR == 1 {print $1}' || true)}
[[ -n $HEAD_IP ]] || { echo "mergefront: $HEAD has no IPv4 address; set MERGEFRONT_HEAD_IP" >&2; exit 1; }
# Ports by the job's number: jobs that share a node do not meet.
PORT=$((20000 + SLURM_JOB_ID % 10000 * 2))
# Short: sockets lie below it, and their paths have at most 107 characters.
RAY_TMP=/tmp/mergefront-$SLURM_JOB_ID
export RAY_ADDRESS=$HEAD_IP:$PORT

steps=()
driver=
ended_by=

# shellcheck disable=SC2317  # called by a trap
stop_driver() {
  ended_by=$1
  if [[ -n $driver ]]; then kill -TERM "$driver" 2>/dev/null || true; fi
}

# shellcheck disable=SC2317  # called by a trap
clean_up() {
  local status=$? pid
  trap - EXIT
  trap '' TERM INT USR1
  for pid in ${driver:+"$driver"} "${steps[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for ((left = STOP_LIMIT_S; left > 0; left--)); do
    [[ -n $(jobs -pr) ]] || break
    sleep 1
  done
  for pid in $(jobs -pr); do kill -KILL "$pid" 2>/dev/null || true; done
  srun --overlap --nodes="${#HOSTS[@]}" --ntasks="${#HOSTS[@]}" --ntasks-per-node=1 rm -rf "$RAY_TMP" || true
  exit "$status"
}

trap clean_up EXIT
trap 'stop_driver limit' USR1
trap 'stop_driver preempted' TERM INT

start() { # NODE ARGUMENTS...: a Ray process on one node, in the background
  local node=$1
  shift
  srun --overlap --nodes=1 --ntasks=1 --cpus-per-task="$CPUS" --nodelist="$node" \
    ray start "$@" --block --disable-usage-stats --num-cpus="$CPUS" --num-gpus="$GPUS" \
    --temp-dir="$RAY_TMP" --dashboard-agent-listen-port=0 &
  steps+=($!)
}

nodes_up() { # COUNT: wait until that many nodes have joined
  python - "$1" "$START_LIMIT_S" <<'END'
import os, sys, time

import ray

wanted, limit = int(sys.argv[1]), float(sys.argv[2])
deadline, up = time.monotonic() + limit, 0
while time.monotonic() < deadline:
    try:
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
        while up < wanted and time.monotonic() < deadline:
            up = sum(node["Alive"] for node in ray.nodes())
            time.sleep(1)
        break
    except (ConnectionError, RuntimeError):
        time.sleep(1)  # the head is not up yet
sys.exit(0 if up >= wanted else f"mergefront: {up} of {wanted} Ray nodes came up within {limit:g} s")
END
}

echo "mergefront: Ray on ${HOSTS[*]}, head $RAY_ADDRESS, attempt $((${SLURM_RESTART_COUNT:-0} + 1))"
start "$HEAD" --head --node-ip-address="$HEAD_IP" --port="$PORT" --ray-client-server-port="$((PORT + 1))" \
  --include-dashboard=false
nodes_up 1
for node in "${HOSTS[@]:1}"; do start "$node" --address="$RAY_ADDRESS"; done
nodes_up "${#HOSTS[@]}"

status=0
if [[ -z $ended_by ]]; then
  mergefront run "$RECIPE" --out "$OUT" --cluster auto &
  driver=$!
  # A signal that is trapped ends `wait` early: ask again until the driver itself has ended.
  while :; do
    status=0
    wait "$driver" || status=$?
    kill -0 "$driver" 2>/dev/null || break
  done
  driver=
fi

if [[ $ended_by == limit && $status -ne 0 ]]; then
  if ((${SLURM_RESTART_COUNT:-0} >= MOST_REQUEUES)); then
    echo "mergefront: the time limit came and the job was queued $MOST_REQUEUES times already; submit it again to go on" >&2
    exit 1
  fi
  echo "mergefront: the time limit is near; queued again, the run goes on"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$status"
