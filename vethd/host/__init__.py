"""What vethd asks of Linux: TAP devices, network namespaces, rtnetlink. Every privileged call is made here."""
