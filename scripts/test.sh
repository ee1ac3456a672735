#!/usr/bin/env bash
# Installs spjax with what its tests need, and runs them. Further flags are those of pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh test
# A file's tests stay in one process, which makes its fixtures and compiles its programs once.
exec .venv/bin/python -m pytest -q -n 2 --dist=loadfile --no-loadscope-reorder "$@"
