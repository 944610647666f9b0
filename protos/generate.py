"""Generates the Python stubs of all protos into `protos/gen`, and builds the image that `buf lint` reads.

`python protos/generate.py` writes the stubs; `--check` fails when the committed stubs differ; `--image FILE` only
writes the descriptor image. The generators are pinned by the lock file, so the result is the same everywhere.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.rpc import status_pb2
from grpc_tools import protoc

PROTO_ROOT = Path(__file__).resolve().parent
GENERATED = PROTO_ROOT / "gen"


def run_protoc(*options: str) -> None:
    """Runs protoc over every proto of the project.

    Raises:
        SystemExit: protoc refused a proto; its message is on standard error.
    """
    sources = [str(path.relative_to(PROTO_ROOT)) for path in sorted(PROTO_ROOT.glob("ilf/**/*.proto"))]
    includes = [
        f"-I{PROTO_ROOT}",
        f"-I{files('grpc_tools') / '_proto'}",
        f"-I{Path(status_pb2.__file__).parents[2]}",
    ]
    if protoc.main(["protoc", *includes, *options, *sources]) != 0:
        raise SystemExit("protoc failed; see the messages above.")


def write_stubs(target: Path) -> None:
    """Generates messages, services and their types into `target`, with `__init__.py` files for `ilf.…` packages."""
    target.mkdir(parents=True, exist_ok=True)
    programs = Path(sys.executable).parent
    run_protoc(
        f"--plugin=protoc-gen-mypy={programs / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={programs / 'protoc-gen-mypy_grpc'}",
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out={target}",
        f"--mypy_grpc_out={target}",
    )
    for folder in [target / "ilf", *(target / "ilf").rglob("*")]:
        if folder.is_dir():
            (folder / "__init__.py").touch()
    (target / "ilf" / "py.typed").touch()


def relative_files(root: Path) -> Iterator[Path]:
    """The generated files below `root`, without caches, relative to it and sorted."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root)


def differences(committed: Path, fresh: Path) -> list[str]:
    """Names of files that differ between the two trees, or are in only one of them."""
    names = sorted({*relative_files(committed), *relative_files(fresh)})
    return [
        str(name)
        for name in names
        if not (committed / name).is_file()
        or not (fresh / name).is_file()
        or not filecmp.cmp(committed / name, fresh / name, shallow=False)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when the committed stubs are not up to date")
    parser.add_argument("--image", metavar="FILE", help="only write the descriptor image for buf")
    arguments = parser.parse_args()
    if arguments.image:
        run_protoc(f"--descriptor_set_out={arguments.image}", "--include_imports", "--include_source_info")
        return
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        write_stubs(fresh)
        if arguments.check:
            changed = differences(GENERATED, fresh)
            if changed:
                raise SystemExit(f"Stubs are out of date ({', '.join(changed)}); run `make proto`.")
            return
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(fresh, GENERATED)


if __name__ == "__main__":
    sys.exit(main())
