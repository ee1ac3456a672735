#!/usr/bin/env bash
# Installs spjax with what its tests need, and runs them. Further flags are those of pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh test
exec .venv/bin/python -m pytest -q -n 2 "$@"
