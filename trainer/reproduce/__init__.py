"""The paper's experiments, each reproduced by one command: rows of figures beside the paper's."""
