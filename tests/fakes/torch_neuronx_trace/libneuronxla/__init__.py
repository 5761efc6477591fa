"""A stand-in for libneuronxla: with it torch_xla sets its process up as on a Neuron machine, computing on the CPU."""


def configure_environment() -> None:
    """What the real one sets is the compiler's."""
