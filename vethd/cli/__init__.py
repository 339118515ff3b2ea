"""`vethctl`: iproute2's grammar in front of the control socket. Standard library only, so that it starts quickly."""
