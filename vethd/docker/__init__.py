"""Docker's network driver `vethd`: a process of its own, between dockerd and the control socket.

    dockerd --- HTTP over /run/docker/plugins/vethd.sock (server.py) --- Driver (driver.py) --- control socket of vethd

    listener.py the socket for docker               server.py     calls as HTTP
    options.py  what docker says, checked           host.py       firewall and sysctls of dockerd's namespace (place.py)
    state.py    networks and endpoints on disk      rules.py      the firewall's text
    ports.py    published ports, held               conntrack.py  flows to ports that lead elsewhere now
                                                    names.py      which container a pair belongs to

A network is a Linux bridge with the gateway's addresses in dockerd's own network namespace, an endpoint is a pair: one
end is a port of the bridge, the other one docker takes into the container, and brings it back when that has gone.
Docker tells of a network once and never again, so what it told is kept on disk, and what should be there is made
complete whenever an endpoint is made: after a restart of the machine nothing of it is left.
"""
