"""A compressed network as an ONNX file whose quantisers are QuantizeLinear and DequantizeLinear, and what that file
does in ONNX Runtime beside the simulation (docs/export.md).

``graph`` writes, ``packing`` knows the containers, ``reading`` reads back what a file holds, ``running`` runs it,
``comparing`` compares, ``report`` puts it together.  Nothing here knows a method; what is integer of a network it says
itself (`bench.interfaces.grids`).
"""
