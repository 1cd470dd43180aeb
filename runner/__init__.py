"""The recipe runner: fine-tune and align language models from short YAML recipes."""

__version__ = "0.1.0"
