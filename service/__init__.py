"""Serves every model of a model repository through onnxruntime, and compares them.

"Section N" in a docstring is one of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

__version__ = "0.1.0"
