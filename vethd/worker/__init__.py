"""The datapath process: no privilege, no names, no netlink - ends by number, frames by file descriptor."""
