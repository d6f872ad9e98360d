"""Models as ONNX files, which run without Python: :func:`export_onnx`."""

from fairtrain.integrations.onnx.export import export_onnx

__all__ = ["export_onnx"]
