"""How fast is a backend? What ``task=bench`` is made of.

================  =====================================================================
`cases`           what is timed: plain values, with the work that each call does
`worker`          the process of one candidate: prepares a case, times calls when asked
`ours`            how a backend carries out a case
`peer_torch`      how PyTorch does; it and `peer_torch_network` alone import it
`networks`        the cases that are whole networks, for both
`machine`         the machine's own limits, and what it is
`processes`       the workers as their parent sees them
`measure`         a case: the candidates in turns, never two at once
`results`         medians, ratios and goals
`contest`         all cases, and what came out
`report`          the table, and the Markdown report
`pictures`        speed-up bars and the roofline
================  =====================================================================
"""
