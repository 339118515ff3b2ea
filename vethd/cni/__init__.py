"""The CNI plugin `vethd-cni`: a container runtime runs it to attach a container to a network, and to detach it.

    runtime --- CNI_* variables, configuration on stdin ---> main     what is asked, and the answer on stdout
                                                              |
            request, config    what the runtime says, checked |
            result             results, as each version of the specification has them
            plan               ADD without any I/O: which bridge, pair, addresses and routes
            add, remove, check, status   the commands
            ipam               the plugin that gives out addresses, run as a program
            control            the daemon, over its control socket
                                                              |
                          vethd: makes the pair, addresses and routes, all or nothing

It keeps no state of its own. A pair carries the attachment - network, container, interface - as labels, by which DEL,
GC and CHECK find it again; its end on the host has a name that follows from them, so that DEL finds it even while no
daemon answers.

Nothing here imports more than it needs: a runtime waits for each call, and many run at once.

Source: the Container Network Interface specification, version 1.1.0, and what the plugins `ptp` and `bridge` do.
"""
