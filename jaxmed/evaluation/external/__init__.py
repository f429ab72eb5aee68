"""External sets: differences from an internal test, refitting, sample sizes."""
