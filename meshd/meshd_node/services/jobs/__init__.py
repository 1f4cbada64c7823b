"""The owner's shell: signs what local users submit, sends leases, checks receipts, delivers outcomes."""
