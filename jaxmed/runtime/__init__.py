"""Files, caches, progress, interrupts, memory and several processes."""
