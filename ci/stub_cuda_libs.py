"""Make a CUDA build of torch importable without the CUDA libraries, for use on a CPU alone: 2.3 GB and not 7.

    python ci/stub_cuda_libs.py      in an environment with torch 2.9.0, cudart and cupti; needs gcc and readelf

torch 2.9.0 of PyPI links against a dozen CUDA libraries that nothing calls on a CPU. This writes a shell for
each beside torch's own libraries: its name, the symbols and symbol versions that torch asks for, and
functions that abort.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from collections import defaultdict
from pathlib import Path

LIBRARIES = Path(sysconfig.get_paths()["purelib"]) / "torch" / "lib"
REAL = {"libcudart.so.12", "libcupti.so.12"}
"""Small ones that are installed: torch calls them as it is imported."""

Symbols = dict[str, dict[str, set[str]]]  # library -> symbol version -> symbols


def main() -> None:
    needed: set[str] = set()
    versioned: Symbols = defaultdict(lambda: defaultdict(set))
    plain: set[str] = set()
    for library in LIBRARIES.glob("*.so"):
        text = subprocess.run(["readelf", "-dVW", "--dyn-syms", str(library)], check=True, capture_output=True,
                              text=True).stdout
        needed |= set(re.findall(r"\(NEEDED\).*\[(lib(?:cu|nccl|nv)[^\]]*)\]", text)) - REAL
        owners = _owners(text)
        for symbol, version in re.findall(r"\sUND (\S+?)@(\S+)", text):
            if owners.get(version) in needed:
                versioned[owners[version]][version].add(symbol)
        plain |= set(re.findall(r"\sUND ((?:cu|nccl|nv)\w+)$", text, flags=re.MULTILINE))
    for name in sorted(needed):
        versions = versioned.get(name, {})
        _write(name, set().union(*versions.values()) if versions else plain, versions)


def _owners(text: str) -> dict[str, str]:
    """The library that must define each symbol version, from readelf's section of versions needed."""
    owners: dict[str, str] = {}
    library = None
    for line in text.splitlines():
        if found := re.search(r"Version: 1\s+File: (\S+)", line):
            library = found[1]
        if library and (found := re.search(r"Name: (\S+)\s+Flags", line)):
            owners[found[1]] = library
    return owners


def _write(name: str, symbols: set[str], versions: dict[str, set[str]]) -> None:
    """Compile one shell."""
    with tempfile.TemporaryDirectory() as folder:
        source, script = Path(folder, "shell.c"), Path(folder, "versions")
        source.write_text("#include <stdlib.h>\n" + "".join(f"void {s}(void) {{ abort(); }}\n"
                                                            for s in sorted(symbols)))
        script.write_text("".join(f"{version} {{ global: {' '.join(f'{s};' for s in sorted(names))} }};\n"
                                  for version, names in versions.items()))
        subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(LIBRARIES / name), f"-Wl,-soname,{name}",
                        *([f"-Wl,--version-script={script}"] if versions else []), str(source)], check=True)


if __name__ == "__main__":
    main()
