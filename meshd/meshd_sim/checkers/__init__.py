"""What must hold in every world, checked as it goes: a checker for each group of invariants. See the README."""
