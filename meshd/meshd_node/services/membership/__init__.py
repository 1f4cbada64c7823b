"""The shell of membership: what comes in is checked here, what goes out is signed here. Spec: 10-membership.md."""
