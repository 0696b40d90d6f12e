"""The Open Inference Protocol, version 2, so that the clients of Triton and KServe work unchanged."""
