"""Services: one shell around each machine, the one place that performs its effects.

Services are entered synchronously, by whoever has an event (decision 0001); each owns one timer.
"""
