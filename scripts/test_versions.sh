#!/usr/bin/env bash
# Tests spjax with the lowest or the newest releases that pyproject.toml allows.
# Usage: scripts/test_versions.sh lowest|newest [PYTHON [FLAGS OF PYTEST ...]]
#
# Makes an environment in a temporary folder (about 900 MB), which is deleted at the end; for the
# resolution it installs uv from the package index into .venv of the clone. PYTHON is an
# interpreter, `python3` by default.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case "${1:-}" in
  lowest) resolution=lowest-direct ;;
  newest) resolution=highest ;;
  *) echo "usage: $0 lowest|newest [PYTHON [FLAGS OF PYTEST ...]]" >&2; exit 2 ;;
esac
python="${2:-python3}"
shift $(($# < 2 ? $# : 2))
source scripts/install.sh ""
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
.venv/bin/uv venv --quiet --python "$python" "$folder/venv"
# pytest at its newest: the floors of spjax are tested, not those of its tools.
.venv/bin/uv pip install --quiet --python "$folder/venv/bin/python" --resolution "$resolution" \
  --editable . "pytest>=9"
.venv/bin/uv pip list --python "$folder/venv/bin/python"
[ $# -gt 0 ] || set -- tests/models tests/methods tests/checkpoints tests/config \
  tests/training/test_golden.py tests/training/test_step.py
"$folder/venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
