"""LOAD STEP > ENGINE > MEASUREMENTS > REPORT: the agent, its engines and the demo target."""
