#!/usr/bin/env bash
# Tests the executors ray and slurm on real clusters on this machine, which it starts and ends.
# Installs ray and submitit into .venv and, as root where there is apt-get, Debian's packages of
# Slurm; says loudly what it has to leave out. Flags are those of pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/install.sh test
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[ray,slurm]"
for program in slurmctld slurmd munged sbatch; do
  if ! command -v "$program" >/dev/null && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      slurmctld slurmd slurm-client munge >/dev/null
    break
  fi
done
exec .venv/bin/python -m pytest -q -n 0 --clusters tests/clusters "$@"
