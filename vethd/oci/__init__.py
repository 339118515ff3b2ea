"""The OCI hook `vethd-oci`: attaches a container of runc, crun or any runtime that runs hooks, as its annotations say.

    runtime --- state of the container on stdin ---> main          what is asked for by its status, and what failed
                                                      |
                                   annotations        without any I/O: parameters of link.add, and errors in their words
                                                      |
                                   vethd: makes the pairs, addresses and routes, all or nothing

It keeps no state. A pair carries the container's id as a label, by which it is found when the container has stopped.

Nothing here imports more than it needs: the container waits for it.

Source: the Open Container Initiative's runtime specification, "POSIX-platform Hooks" and "State".
"""
