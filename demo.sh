#!/bin/sh
# The whole job on a phantom archive: `make demo`, or `sh demo.sh BIN DIR` with BIN the folder of the four commands.
# Every command is printed before it runs. Run it again to see that finished work is not done twice.
set -eu
PATH=$(cd "$1" && pwd):$PATH
export PATH
mkdir -p "$2" && cd "$2"

step() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

step curate simulate phantom --sites 2 --patients 600 --seed 0
step curate ingest phantom/manifest.csv --images phantom/images
step curate measure
step curate sample --balance age --holdout 0.3
step pretrain run shards/
step evaluate run --model pretrained=runs/mae-tiny --task phantom/task.yaml
step cards build

printf '\n%s\n' "$(pwd)/card/card.html"
