"""What users import: `Mesh`, a `concurrent.futures.Executor` over a mesh of machines."""
