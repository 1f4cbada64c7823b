"""`meshd demo`: a mesh of four daemons on one machine, one of which lies, doing a real job."""
