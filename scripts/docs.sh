#!/usr/bin/env bash
# Builds the documentation site into build/site; with --serve, shows it and follows changes.
# Further flags are those of MkDocs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh docs
export NO_MKDOCS_2_WARNING=true
if [ "${1:-}" = --serve ]; then
  shift
  exec .venv/bin/mkdocs serve "$@"
fi
exec .venv/bin/mkdocs build --strict "$@"
