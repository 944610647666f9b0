#!/usr/bin/env bash
# Makes a virtual environment with exactly the packages of a lock, and the project itself: locks/setup.sh VENV cpu|gpu
set -euo pipefail
venv=$1
python=${PYTHON:-python3.11}

if ! command -v "$python" >/dev/null; then
    echo "ILF needs Python 3.11, and '$python' is not on the path. Install it, or name it: make PYTHON=/path/to/python3.11 …" >&2
    exit 1
fi
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "ILF's locks are for Python 3.11; '$python' is $("$python" -V). Name another: make PYTHON=/path/to/python3.11 …" >&2
    exit 1
}

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
bash locks/install.sh "$venv" "locks/$2.txt"
"$venv/bin/python" -m pip install --quiet --no-deps --editable .
