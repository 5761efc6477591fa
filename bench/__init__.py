"""trnbench: PyTorch workloads measured on CPU, GPU and AWS Neuron, kept as records, compared."""

__version__ = "0.1.0"
