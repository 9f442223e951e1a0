#!/bin/bash
# One host's part of a run over several hosts, without a scheduler. Run it on every host, with the same arguments:
#
#   NODES=2 NODE=0 MASTER=host0 scripts/cluster/torchrun.sh -c configs/base.yaml -c configs/data/cora.yaml   # on host0
#   NODES=2 NODE=1 MASTER=host0 scripts/cluster/torchrun.sh -c configs/base.yaml -c configs/data/cora.yaml   # on host1
#
# NODES hosts, NODE this host's number, MASTER the first host's name, PORT a free port there (29500), DEVICES processes
# a host (1), RUN the run's folder (runs/torchrun), which all hosts see. Arguments are those of `mebns fit`. A run
# that has ended early goes on from its last checkpoint when the same is run again.
set -euo pipefail

: "${NODES:=1}" "${NODE:=0}" "${MASTER:=127.0.0.1}" "${PORT:=29500}" "${DEVICES:=1}" "${RUN:=runs/torchrun}"
mkdir -p "$RUN"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

RESUME=()
[[ -s "$RUN/last.ckpt" ]] && RESUME=(--ckpt_path "$RUN/last.ckpt")

exec "${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/agent.py" \
    --nnodes "$NODES" --node-rank "$NODE" --nproc-per-node "$DEVICES" \
    --master-addr "$MASTER" --master-port "$PORT" \
    -m mebns_pl fit "$@" \
    -c configs/cluster/torchrun.yaml \
    --trainer.devices "$DEVICES" \
    --trainer.num_nodes "$NODES" \
    --trainer.default_root_dir "$RUN" \
    --checkpoint.dirpath "$RUN" \
    "${RESUME[@]}"
