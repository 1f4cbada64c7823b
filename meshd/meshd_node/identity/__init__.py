"""Who this node is: its folder, its keys and certificates, the mesh it founded or joined. Spec: 09-admission.md."""
