"""Finding a node, a job or a blob by what a person knows of it. Spec: 11-local.md, section 3."""
