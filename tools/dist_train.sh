#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [OPTIONS of tools/train.py]
# On a machine without a GPU it starts that many processes on the CPU. For several machines set
# NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
files=("$1") processes=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$(dirname "$0")/train.py" "${files[@]}" --launcher pytorch "$@"
