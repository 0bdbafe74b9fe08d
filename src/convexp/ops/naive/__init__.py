"""The reference: every op in NumPy, as loops for the most part, written to be read.

Each module has ``forward`` and ``backward`` with the formula above the loop; the compiled twins in
`convexp.ops.fast` have the same names and the same formulas. What these compute is right by
definition, so they stay as plain as they are: speed belongs to the other backends.
"""
