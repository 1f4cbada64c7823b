"""The local socket: programs of this machine's users submit work here and ask what goes on. Spec: 11-local.md."""
