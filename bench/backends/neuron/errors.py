"""What Neuron's error texts mean: a table of patterns, each with the status and the words of the record.

Rows are tried from the top and the first that fits wins, so a compiler's own code stands above the wrappers that
pass it on. Written against the documentation and source of SDK 2.33; not run on Neuron hardware by us.
Sources: AWS Neuron documentation, runtime troubleshooting, compiler error codes, setup and torch troubleshooting
(2.32, 2.33); texts of the native flavour from its source before the release (0.1.0; in NeuronCompiler.cpp a
compiler that is killed has exit code 0 and leaves no file), of the XLA flavour from that of torch-neuronx 1.13.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

Fact = Callable[[], str | None]

NCC = re.compile(r"NCC_[A-Z]+\d+")
SIZE = r"\d[\d.,]*\s*(?:[KMGT]i?B|bytes)\b"
SMALLER = "try a smaller batch, a shorter sequence, recomputed activations or more cores"


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of failure. `say` is given the text, and what fits goes into its words."""

    kind: str
    patterns: tuple[str, ...]
    status: str
    say: Callable[[_Seen], str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A text with what the machine knows of it."""

    text: str
    line: str  # the one that the pattern was found in
    busy: Fact
    chip: Fact

    def first(self, pattern: str) -> str | None:
        """The first group of a pattern's first hit, case aside, or None."""
        found = re.search(pattern, self.text, re.IGNORECASE)
        return found[1] if found else None

    @property
    def code(self) -> str:
        found = NCC.search(self.text)
        return found[0] if found else "no code"


def _status(*numbers: str) -> str:
    """A status number of the runtime, next to NRT, status or ret= alone: 5 is a number like any other elsewhere."""
    return (rf"(?<!exit )(?<!exited with )\b(?:NRT\w*|status(?:[ _]code)?|ret)\s*[:=(]?\s*-?"
            rf"(?:{'|'.join(numbers)})\b(?![.\d])")


def explain(text: str, *, busy: Fact = lambda: None, chip: Fact = lambda: None) -> tuple[str, str] | None:
    """Return (status, what to tell the user) for an error's text or a dead child's last lines; None: not known.

    `busy` says who holds the cores and `chip` which chip this is; they are asked only where it matters. Where the
    text names the compiler's log, so do the words.
    """
    row, line = row_of(text)
    if row is None:
        return None
    seen = _Seen(text, line, busy, chip)
    log = seen.first(r"([^\s'\"=]*log-neuron-cc[^\s'\"]*\.txt|[^\s'\"=]*neuronxcc-\S+?\.log)\b")
    return row.status, row.say(seen) + (f" (the compiler's log: {log})" if log else "")


def row_of(text: str) -> tuple[Row | None, str]:
    """Return the first row that fits a text, or None, and the line that it was found in."""
    for row in ROWS:
        found = re.search("|".join(f"(?:{pattern})" for pattern in row.patterns), text, re.IGNORECASE | re.MULTILINE)
        if found:
            start = text.rfind("\n", 0, found.start()) + 1
            return row, text[start:].partition("\n")[0].strip()[:300]
    return None, ""


def _driver(seen: _Seen) -> str:
    wanted = seen.first(r"requires Neuron Driver version\s*([\d.]+)")
    needs = f": the runtime needs {wanted.rstrip('.')} or newer" if wanted else ""
    return f"the driver aws-neuronx-dkms is missing or too old{needs}: install it, then sudo modprobe neuron"


def _held(seen: _Seen) -> str:
    asked = seen.first(r"Requested:\s*([\w-]+)")
    free = seen.first(r"Available:\s*([\w-]+)")
    what = f"asked for {asked}, free {free or '0'}" if asked else "the cores asked for are not free"
    holder = seen.busy()
    return f"NeuronCores are busy ({what}): {f'held, {holder}' if holder else 'neuron-ls names no process any more'}"


def _too_many(seen: _Seen) -> str:
    return (f"more or other cores were asked for than there are or than may be had together: {seen.line}. "
            "See `trnbench doctor`, and --backend-option cores")


def _oom(seen: _Seen) -> str:
    asked = seen.first(rf"(?:allocate|requested|needed|size)\D{{0,20}}?({SIZE})") or seen.first(
        r"(?:for size|requested|needed)\W{0,3}(\d+)\b")
    free = seen.first(rf"({SIZE})\s*(?:is|are)?\s*free") or seen.first(rf"(?:available|free)\W{{0,3}}({SIZE}|\d+)\b")
    limit = seen.first(rf"(?:capacity|total|limit|of)\D{{0,20}}({SIZE})")
    known = [f"asked {_bytes(asked)}" if asked else "size not told", *([f"free {_bytes(free)}"] if free else []),
             *([f"of {limit}"] if limit and not free else [])]
    return f"out of device memory: {', '.join(known)}: {SMALLER}"


def _oom_compile(seen: _Seen) -> str:
    needs = seen.first(rf"(?:usage of|requires?|needs?)\D{{0,20}}?({SIZE})") or "more device memory"
    limit = seen.first(rf"(?:exceeds?|limit|capacity|maximum of|available)\D{{0,40}}?({SIZE})")
    return f"the graph needs {needs}{f' of {limit}' if limit else ' than there is'} ({seen.code}): {SMALLER}"


def _bytes(text: str) -> str:
    """A bare number is bytes."""
    if not text.strip().isdigit():
        return text.strip()
    return f"{int(text) / 2**30:.2f} GiB" if int(text) >= 2**30 / 100 else f"{int(text)} bytes"


def _host(seen: _Seen) -> str:
    return ("host memory ran out, often neuronx-cc's (or something else killed it): use an instance with more, or a "
            f"smaller model or batch: {seen.line}")


def _dynamic(seen: _Seen) -> str:
    return ("the model has shapes that depend on data, or more shapes than the compiler keeps; Neuron needs fixed "
            f"ones: {seen.line}")


HARDWARE_WORDS = ("Hardware failure", "Stuck in collectives op", "uncorrectable error", "parity error",
                  "unrecoverable error", "notification queue overflow", "EFA network proxy failure")
"""What the native flavour says in place of the numbers 6 and 1200 to 1206 (its source, csrc, ErrorHandler.cpp)."""

UNSUPPORTED = {"EVRF001": "operator", "EUOC002": "operator", "EVRF029": "operator",
               "EVRF004": "complex numbers", "ESPP004": "float64",
               "EVRF005": "fp8", "ESPP047": "fp8", "EVRF051": "fp8", "EVRF052": "fp8",
               "EVRF035": "integer type", "EVRF060": "integer type", "EVRF061": "integer type",
               "EVRF062": "integer type", "EVRF063": "integer type"}
"""Codes of neuronx-cc, less their NCC_ -> what it refuses."""


def _unsupported(seen: _Seen) -> str:
    code = next((found for found in NCC.findall(seen.text) if found[4:] in UNSUPPORTED), None)
    name = next(filter(None, map(seen.first, (
        r"(aten[:.]+[\w.]+)", r"\b(?:operator|operation|op|opcode)\b[ :='\"`]*([\w.:]{3,})",
        r"\b(float8_\w+|f8e\w+|complex\d+|f64|float64|u?int\d+)\b"))), None)
    kind = UNSUPPORTED[code[4:]] if code else "operator, and falling back to the CPU is off"
    return (f"not supported on {seen.chip() or 'this chip'}: {kind}{f' {name}' if name else ''}"
            f"{f' ({code})' if code else ''}: {seen.line}")


def _crash(seen: _Seen) -> str:
    return f"neuronx-cc failed ({seen.code}): {seen.line}"


ROWS = (
    Row("no device", (r"Failed to get Neuron instance information", r"num_devices > 0", r"no /dev/neuron"),
        "failed", lambda seen: "no Neuron device on this machine, or it was not passed into the container "
                               "(docker run --device=/dev/neuron0)"),
    Row("driver", (r"Unable to determine Neuron Driver version", r"This runtime requires Neuron Driver version",
                   r"Neuron DKMS Driver is not running", r"/sys/module/neuron\b"), "failed", _driver),
    Row("packages", (r"Expected one of cpu, cuda.* at start of device string: neuron",
                     r"cannot import name 'neuron'", r"No module named '?libneuronxla", r"torch-neuronx[ =]+1\.0\b",
                     r"multiple backend fallbacks.*PrivateUse1"), "failed",
        lambda seen: "the installed packages do not fit: Trn2 and Trn3 need torch-neuronx 2.13 or 2.14 with torch of "
                     f"the same number, Inf2 and Trn1 need 2.9: {seen.line}"),
    Row("compiler not found", (r"neuronx-cc\b.{0,12}not (found|on PATH)", r"No such file or directory: '?neuronx-cc",
                               r"neuronx-cc compiler binary does not exist",
                               r"\(neuronx-cc compilation\) with exit code 127\b"),
        "failed", lambda seen: "the compiler neuronx-cc is not on PATH: install it from AWS's index"),
    Row("cores busy", (r"Neuron ?Core\(s\) not available", r"NeuronCores? not available", r"\bret=-16\b",
                       _status("1005"), r"NC_BUSY", r"Neuron core busy/locked"), "failed", _held),
    Row("too many cores", (r"Could not open the nd\d+", r"Could not find VNC id", r"NOT_ENOUGH_NC", _status("9"),
                           r"must request one core, or the whole device", r"Device index must be between",
                           r"Invalid device id", r"Not enough NCs for loading"), "failed", _too_many),
    Row("out of device memory", (r"NRT allocation failed for size", r"NRT_RESOURCE", _status("4"),
                                 r"Failed to allocate(?! host)", r"mc_alloc", r"ONE TMPBUF", r"\bOutOfMemoryError\b"),
        "oom", _oom),
    Row("out of device memory, compiling", (r"NCC_EOOM00[12]", r"NCC_EVRF009", r"NCC_EXSP001",
                                            r"Maximum peak HBM usage of .* exceeds"), "oom", _oom_compile),
    Row("out of host memory", (r"exit(ed)? (with )?(code |status )?137\b", r"^(.*\W)?Killed$", _status("11"),
                               r"Failed to allocate host memory", r"\[F137\]",
                               r"neuronx-cc\b.{0,12}forcibly killed", r"neuronx-cc failed with -9\b",
                               r"died with <Signals\.SIGKILL", r"Failed to read compiled NEFF file"),
        "oom", _host),
    Row("dynamic shape", (r"NCC_EMOD025", r"recompile_limit", r"dynamic=True", r"PendingUnbackedSymbolNotFound"),
        "unsupported", _dynamic),
    Row("unsupported", (rf"NCC_(?:{'|'.join(UNSUPPORTED)})\b", r"CPU fallback disabled",
                        r"Could not run 'aten::.* with arguments from the"), "unsupported", _unsupported),
    Row("graph break", (r"_dynamo\.exc\.Unsupported",), "unsupported",
        lambda seen: "the model is not one graph, which the compiler asks for: pass --no-compile, or mend the model: "
                     f"{seen.line}"),
    Row("graph too large", (r"NCC_EVRF007", r"NCC_EBVF030", r"NCC_EXTP004", r"NCC_IXTP002"), "unsupported",
        lambda seen: f"the graph has too many instructions ({seen.code}): try a smaller batch or sequence"),
    Row("LNC mismatch", (r"NCC_EARG001",), "failed",
        lambda seen: "the compiler's --lnc and NEURON_LOGICAL_NC_CONFIG differ (NCC_EARG001): pass --backend-option "
                     "lnc=1 or lnc=2, which sets both"),
    Row("compiler crash", (r"NCC_I[A-Z]+\d+", r"Compilation error occurred on Neuron for operation=",
                           r"COMPILATION FAILED", r"\(neuronx-cc compilation\) with exit code",
                           r"neuronx-cc failed with -?\d+", r"neuronx-cc\b.*returned non-zero exit status",
                           r"neuronx-cc terminated abnormally"), "failed", _crash),
    Row("failed compile in the cache", (r"Got a cached failed neff",), "failed",
        lambda seen: "the cache holds a compile that failed: pass --backend-option cache=cold, or "
                     "cc_flags=--retry_failed_compilation"),
    Row("NEFF version", (r"NEFF version mismatch", _status("10"), r"Unsupported NEFF version"), "failed",
        lambda seen: "compiled for another version of the runtime: install neuronx-cc and aws-neuronx-runtime-lib of "
                     "one SDK, and begin with cache=cold"),
    Row("timeout", (r"execution timeout", _status("5"), r"missing collectives status",
                    r"NRT EXECUTION FAILED: .*Operation timed out"), "timeout",
        lambda seen: "the device gave no answer in time; with several processes one of them may have died: "
                     f"{seen.line}"),
    Row("numerical", (_status("1003"), r"\b(\w*num_err\w*|numerical) rose by",
                      r"Execution completed with numerical errors", r"NRT_EXEC_COMPLETED_WITH_NUM_ERR"), "failed",
        lambda seen: "a numerical error (NaN) on the device; on Trn1 and Inf2 it stays until the process ends: "
                     f"{seen.line}"),
    Row("hardware", (r"\b(NEURON|NRT)_(\w+_)?HW_ERR", r"\bHW_ERROR\b",
                     r"\b(\w*uncorrected|hw_error\w*|hardware) rose by", _status("6", "101", "120[0-6]"),
                     *(rf"NRT EXECUTION FAILED: .*{words}" for words in HARDWARE_WORDS)), "failed",
        lambda seen: f"a hardware fault: reboot or replace the instance: {seen.line}"),
    Row("network", (r"Error opening libnccom\.so", r"Ofi plugin is not installed or EFA is not enabled",
                    r"OFI plugin initNet\(\) failed"), "failed",
        lambda seen: "the collectives library or EFA is missing: install aws-neuronx-collectives, and for several "
                     f"machines EFA: {seen.line}"),
    Row("order of set-up", (r"should not be initialized before the init_process_group",
                            r"Cannot re-initialize Neuron runtime in forked subprocess"), "failed",
        lambda seen: f"a fault of trnbench, please report it: {seen.line}"),
)
"""Source: AWS Neuron documentation and source, as above; numbers are those of NRT_STATUS."""
