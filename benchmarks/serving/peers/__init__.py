"""What a user would pick instead: each framework's shortest server over one ONNX file, batching by its own means.

Each answers the rows of `inputs` at /predict with their `probabilities` (BentoML: with the bare array; MLServer: by the
Open Inference Protocol), by one worker with onnxruntime's defaults. It joins up to 64 requests that come within 2 ms;
BentoML counts rows, and finds its own wait. None logs requests, nor does the ten-minute endpoint. They know nothing of
this project. MODEL names the file and PORT the port.

Each lives in an environment of its own, DIR/<name>, so that none decides the libraries of another:

    python -m venv DIR/litserve && DIR/litserve/bin/pip install litserve onnxruntime numpy
    python -m venv DIR/mosec    && DIR/mosec/bin/pip install mosec onnxruntime numpy
    python -m venv DIR/mlserver && DIR/mlserver/bin/pip install mlserver onnxruntime numpy "uvloop<0.22"
    python -m venv DIR/bentoml  && DIR/bentoml/bin/pip install bentoml onnxruntime numpy
    python -m venv DIR/rayserve && DIR/rayserve/bin/pip install "ray[serve]" onnxruntime numpy

    python -m benchmarks.serving --peers-dir DIR --peers litserve,mosec

MLServer's worker does not start with a newer uvloop.
Written for litserve 0.2.19, mosec 0.9.8, mlserver 1.7.1, bentoml 1.4.40 and ray 2.60.0.
"""
