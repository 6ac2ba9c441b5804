#!/usr/bin/env bash
# One Ray cluster on the nodes of a Slurm job, for one command:
#   sbatch --nodes=4 deploy/slurm.sh mshisto run /shared/study/study.yaml
# The same command resumes a job that ran out of time. Whole nodes are simplest: two
# clusters on one node share its ports. FILL_IN: your partition, and what a node has.
#SBATCH --job-name=mshisto
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --exclusive
#SBATCH --signal=B:TERM@120
set -euo pipefail

if (($# == 0)); then
    echo "usage: sbatch --nodes=N deploy/slurm.sh COMMAND ..." >&2
    exit 2
fi
HEAD=$(hostname --ip-address | awk '{print $1}')
PORT=$((20000 + SLURM_JOB_ID % 12000))
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export HEAD PORT RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# The batch script runs on the first node, which is task 0's. Ray finds GPUs itself.
srun --kill-on-bad-exit=0 bash -c '
    if ((SLURM_NODEID == 0)); then
        exec ray start --head --node-ip-address "$HEAD" --port "$PORT" \
            --num-cpus "$SLURM_CPUS_PER_TASK" --include-dashboard=false --block
    fi
    until (exec 3<> "/dev/tcp/$HEAD/$PORT") 2> /dev/null; do sleep 1; done
    exec ray start --address "$HEAD:$PORT" --num-cpus "$SLURM_CPUS_PER_TASK" --block
' &
cluster=$!
trap 'kill "$cluster" 2> /dev/null || true; wait "$cluster" || true' EXIT

# Jobs take the nodes that are there when they start.
until (exec 3<> "/dev/tcp/$HEAD/$PORT") 2> /dev/null; do
    kill -0 "$cluster"  # ends here where Ray did not start
    sleep 1
done
python - "$HEAD:$PORT" "$SLURM_JOB_NUM_NODES" <<'WAIT'
import sys, time
import ray

end = time.monotonic() + 600
while not ray.is_initialized():  # the port opens before the node is ready
    try:
        ray.init(address=sys.argv[1], logging_level="ERROR")
    except ConnectionError:
        if time.monotonic() > end:
            raise
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
WAIT

RAY_ADDRESS="$HEAD:$PORT" "$@" &
job=$!
# Two minutes before the time limit: the job stops in order.
trap 'kill -TERM "$job"' TERM
code=0
wait "$job" || code=$?
# A signal ends the first wait; the job still ends by itself.
while kill -0 "$job" 2> /dev/null; do
    code=0
    wait "$job" || code=$?
done
exit "$code"
