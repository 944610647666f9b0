#!/usr/bin/env bash
# Makes a virtual environment with exactly the packages of a lock: locks/setup.sh VENV cpu|gpu
set -euo pipefail
venv=$1
lock=locks/$2.txt
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
export PIP_DISABLE_PIP_VERSION_CHECK=1
install=("$venv/bin/python" -m pip install --quiet --no-deps)
"${install[@]}" --upgrade 'pip>=26'

torch=$(grep -E '^torch==' "$lock")
echo "Installing $(grep -c == "$lock") packages into $venv; this takes a few minutes."
# The CPU build of torch is not on PyPI: where pip is not told where else to look, PyTorch's own index has it.
"${install[@]}" "$torch" 2>/dev/null ||
    "${install[@]}" --index-url https://download.pytorch.org/whl/cpu "$torch"
"${install[@]}" --requirement "$lock"
"${install[@]}" --editable .
