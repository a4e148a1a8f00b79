"""Whether the packages of the extra are there."""

from __future__ import annotations

from bench.errors import BenchError

INSTALL = "pip install 'datafree-bench[onnx]'"


def require() -> None:
    """Load what writes and runs ONNX.

    Raises:
        BenchError: a package of the extra ``onnx`` is missing.
    """
    try:
        versions()
    except ImportError as error:
        what = "a package of the extra `onnx` is not installed"
        raise BenchError(what, where="bench export", got=error.name, hint=INSTALL) from error


def versions() -> dict[str, str]:
    """Package → version of what wrote and ran a file."""
    import onnx
    import onnx_ir
    import onnxruntime
    import onnxscript

    packages = (onnx, onnx_ir, onnxscript, onnxruntime)
    return {package.__name__: str(package.__version__) for package in packages}
