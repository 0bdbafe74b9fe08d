"""How fast is a backend? What ``task=bench`` is made of.

================  =====================================================================
`cases`           what is timed: plain values, with the work that each call does
`worker`          the process of one candidate: prepares a case, times calls when asked
`ours`            how a backend carries out a case
`peer_torch`      how PyTorch does; the only module that imports it
`machine`         the machine's own limits, and what it is
`measure`         the parent: candidates in turns, never two at once
`results`         medians, ratios and goals
`report`          the table, and the Markdown report
`pictures`        speed-up bars and the roofline
================  =====================================================================
"""
