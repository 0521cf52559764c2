"""Measurements of fastdock beside other ways to run the same program (docs/benchmarks.md).

``measure`` holds the method (interleaved rounds, medians, ratios), ``peers`` the ways to run a workload, ``suites``
what is measured, ``report`` tables and plots.  ``pytest --benchmark`` and ``fastdock bench`` are two faces of it.
"""
