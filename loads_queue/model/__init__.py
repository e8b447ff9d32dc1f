"""The pure load model: standard library only, no clock, no I/O."""
