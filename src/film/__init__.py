"""Films of trained policies at play."""
