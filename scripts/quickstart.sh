#!/usr/bin/env bash
# Installs spjax and runs a small scaling study; a second call does only what is left to do.
# Further flags are those of `spjax sweep`, for example --dry_run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh ""  # without an argument it would see those of this script
exec .venv/bin/spjax sweep --gin_file=experiments/pocket/quickstart.gin "$@"
