"""State machines without input, output or clock: `handle(event, now) -> list[Effect]`."""
