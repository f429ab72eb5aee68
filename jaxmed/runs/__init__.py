"""Run folders: their layout, reading and writing them, and the trained model in one."""
