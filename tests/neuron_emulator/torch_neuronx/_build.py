"""Build the two C++ parts on first use, about half a minute each, kept by source, torch and Python."""
from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import torch

HERE, LIBRARIES = Path(__file__).parent, Path(torch.__file__).parent / "lib"
FLAGS = ["-O1", "-g0", "-std=c++20", "-fPIC", "-shared", "-w",
         f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]


def load_device() -> None:
    torch.ops.load_library(str(_library("device", ["torch", "torch_cpu", "c10"])))


@cache
def load_distributed():
    path = _library("distributed", ["torch", "torch_cpu", "torch_python", "c10"])
    spec = importlib.util.spec_from_file_location("neuron_distributed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _library(name: str, linked: list[str]) -> Path:
    """The built library of `name`.cpp; RuntimeError with the compiler's words where it does not build."""
    source = HERE / f"{name}.cpp"
    made_of = source.read_bytes() + f"{torch.__version__} {sys.implementation.cache_tag} {FLAGS}".encode()
    kept = Path(os.environ.get("NEURON_EMU_BUILD") or Path.home() / ".cache/trnbench-neuron-emulator")
    library = kept / f"{name}-{hashlib.sha256(made_of).hexdigest()[:12]}.so"
    if library.exists():
        return library
    from filelock import FileLock  # a dependency of torch; here, as every import of torch comes through

    kept.mkdir(parents=True, exist_ok=True)
    with FileLock(kept / "build.lock"):
        if not library.exists():
            _build(source, library, linked)
    return library


def _build(source: Path, library: Path, linked: list[str]) -> None:
    torch_headers = LIBRARIES.parent / "include"
    headers = [torch_headers, torch_headers / "torch/csrc/api/include", sysconfig.get_paths()["include"]]
    unfinished = library.with_suffix(".tmp")
    command = [os.environ.get("CXX", "g++"), *FLAGS, "-DTORCH_EXTENSION_NAME=neuron_distributed",
               *(f"-I{path}" for path in headers), str(source), "-o", str(unfinished), f"-L{LIBRARIES}",
               *(f"-l{one}" for one in linked), f"-Wl,-rpath,{LIBRARIES}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the Neuron emulator does not build:\n{done.stderr[-2000:]}")
    unfinished.replace(library)
