#!/bin/sh
# Makes .venv with everything in requirements.lock that this machine can have, and says what it left out.
set -eu
python=${1:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "setup: $("$python" --version 2>&1) is too old, commonprior needs Python 3.11 or later: make PYTHON=python3.11" >&2
    exit 2
fi
if ! "$python" -m venv .venv; then
    echo "setup: this Python has no venv module: apt-get install python3-venv" >&2
    exit 2
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
if ! .venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements.lock; then
    echo "setup: not everything in the lock has a wheel for $(uname -s)/$(uname -m); installing the core alone." >&2
    .venv/bin/uv pip install --quiet --python .venv/bin/python -e .
    for extra in chem he garbled rpc contracts oracle dev; do
        .venv/bin/uv pip install --quiet --python .venv/bin/python -e ".[$extra]" ||
            echo "setup: left out the extra '$extra': see the lines above." >&2
    done
fi
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps -e .
touch .venv/.ready
