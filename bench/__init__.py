"""datafree-bench: the engine. It knows no method by name and imports no UI."""

__version__ = "0.1.0"
