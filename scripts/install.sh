# shellcheck shell=bash
# Sourced by the other scripts: puts spjax into .venv in the clone, unless it is there already.
# Usage: source scripts/install.sh [EXTRA]

extra="${1:-}"
stamp=".venv/.spjax${extra:+-$extra}"
wanted="$(cat setup.py pyproject.toml | cksum) $PWD"
recent='import sys; sys.exit(sys.version_info < (3, 11))'

if [ ! -e .venv ]; then
  python=""
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c "$recent" >/dev/null 2>&1; then
      python="$candidate"
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "spjax needs Python 3.11 or newer, and none is in PATH." >&2
    exit 1
  fi
  echo "Making a virtual environment in .venv"
  "$python" -m venv .venv
elif ! .venv/bin/python -c "$recent" >/dev/null 2>&1; then
  echo "$PWD/.venv has no working Python 3.11 or newer; move or delete it, then start again." >&2
  exit 1
fi

if ! .venv/bin/python -m pip --version >/dev/null 2>&1 &&
  ! .venv/bin/python -m ensurepip >/dev/null 2>&1; then
  echo "$PWD/.venv has no pip, and ensurepip cannot install it;" \
    "install pip there, or move or delete .venv, then start again." >&2
  exit 1
fi

if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
  echo "Installing spjax and the packages it needs into .venv;" \
    "this takes some minutes the first time, and pip prints nothing until it is done."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable ".${extra:+[$extra]}"
  echo "$wanted" >"$stamp"
fi
