"""The executor's shell: checks leases, feeds workers, signs receipts."""
