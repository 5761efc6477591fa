"""Where the real one keeps its PJRT plugin; with PJRT_DEVICE=CPU nobody loads it."""


def libneuronpjrt_path() -> str:
    return "/nowhere/libneuronpjrt.so"
