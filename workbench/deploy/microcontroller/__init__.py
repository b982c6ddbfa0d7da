"""A model as C99 source for a microcontroller: integer arithmetic, no allocation, memory known beforehand.

``lower`` turns the int8 ONNX file that ONNX Runtime runs into a program of a few integer operators,
``arena`` lays its values out in one buffer, ``source`` writes the C files, ``compiled`` compiles and runs
them here, and ``boards`` tells where they fit.
"""
