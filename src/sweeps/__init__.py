"""Many runs from one description: what runs, where, and what is left to do."""
