"""Figures beside kernel veth: `python -m benchmarks [--quick] [--json FILE]`, explained in docs/performance.md.

    __main__      arguments, the order of the runs
    topology      a link under test between two namespaces: kernel veth, or vethd over a private daemon
    daemon        that private daemon and its control socket
    generators    the C programs beside these files, compiled when a run starts; starting and stopping processes
    measure       what a measurement is
    measure_*     one row of the table, or a few that come out of the same traffic
    report        medians, ratios to kernel veth, the table and the JSON

Another link (an engine of vethd, a neighbouring project) is one more entry of `topology.LINKS`; another figure is one
more `measure_*` module, listed in `__main__`.
"""
