#!/usr/bin/env bash
# tools/dist_test.sh CONFIG CHECKPOINT GPUS [OPTIONS of tools/test.py]
# On a machine without a GPU it starts that many processes on the CPU. For several machines set
# NNODES, NODE_RANK, MASTER_ADDR and PORT on each.
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
fi
files=("$1" "$2") processes=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$processes" \
    "$(dirname "$0")/test.py" "${files[@]}" --launcher pytorch "$@"
