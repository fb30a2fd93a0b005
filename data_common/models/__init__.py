"""Models and tokenizers: loading, text to tokens, log-probabilities, and what a model does with its input."""
