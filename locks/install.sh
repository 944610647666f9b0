#!/usr/bin/env bash
# Installs exactly the packages of a lock into a virtual environment: locks/install.sh VENV LOCK
set -euo pipefail
venv=$1
lock=$2

export PIP_DISABLE_PIP_VERSION_CHECK=1
install=("$venv/bin/python" -m pip install --quiet --no-deps)
"${install[@]}" --upgrade 'pip>=26'

echo "Installing $(grep -c == "$lock") packages into $venv; this takes a few minutes."
if torch=$(grep -E '^torch==' "$lock"); then
    # The CPU build of torch is not on PyPI: where pip is not told where else to look, PyTorch's own index has it.
    "${install[@]}" "$torch" 2>/dev/null ||
        "${install[@]}" --index-url https://download.pytorch.org/whl/cpu "$torch"
fi
"${install[@]}" --requirement "$lock"
